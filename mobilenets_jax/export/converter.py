"""StableHLO to TFLite by litert-converter, without TensorFlow, in a process of its own.

The converter is C++ that ends its process where a program is not to its liking. It has no front end for JAX: what is
called here is what litert-torch calls, which is not documented, so that pyproject.toml pins the version.
"""

import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from mobilenets_jax.errors import RunError, needed
from mobilenets_jax.export import flatbuffer

SIGNATURE = 'serving_default'
TIMEOUT_SECONDS = 1800
UNSUPPORTED = ('STABLEHLO_', 'CUSTOM')  # what becomes of other operations: nothing on a phone runs it


def to_tflite(program: str, input_name: str, *output_names: str) -> bytes:
    """Converts a program of one function with one input to the bytes of a float TFLite file; outputs in their order.

    Raises:
        RunError: the converter fails, or there is an operation that it does not know; the line has its reason.
        UserError: it is not installed.
    """
    (content,) = all_to_tflite([program], input_name, *output_names)
    return content


def all_to_tflite(programs: Sequence[str], input_name: str, *output_names: str) -> list[bytes]:
    """Converts programs as `to_tflite` does, in one process, as most of a small one's time is that of starting."""
    needed('litert_converter.converter_api_ext')
    with tempfile.TemporaryDirectory() as folder:
        for number, program in enumerate(programs):
            pathlib.Path(folder, f'{number}.mlir').write_text(program)
        command = [sys.executable, '-m', __name__, folder, input_name, *output_names]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise RunError(f'the converter was not ready after {TIMEOUT_SECONDS} s.') from None
        targets = [pathlib.Path(folder, f'{number}.tflite') for number in range(len(programs))]
        if ended.returncode or not all(target.exists() for target in targets):
            raise RunError(f'the converter failed (status {ended.returncode}): {_reason(ended.stderr)}.')
        contents = [target.read_bytes() for target in targets]
    for content in contents:
        unknown = [name for name in flatbuffer.operation_counts(content) if name.startswith(UNSUPPORTED)]
        if unknown:
            raise RunError(f'the network has operations that TFLite does not have: {", ".join(unknown)}.')
    return contents


def _reason(output: str) -> str:
    """The line of the converter's output with the cause: its first error, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.partition('error: ')[2] for line in lines if 'error: ' in line]
    return f'{(errors or lines[-1:] or ["it says nothing"])[0]:.300}'.rstrip('.')


def main(folder: str, input_name: str, *output_names: str) -> None:
    """Converts each program NUMBER.mlir of a folder to the file NUMBER.tflite."""
    from litert_converter import converter_api_ext
    from litert_converter.mlir import ir, passmanager

    for source in sorted(pathlib.Path(folder).glob('*.mlir')):
        context = ir.Context()
        converter_api_ext.prepare_mlir_context(context)
        with context, ir.Location.unknown():
            module = ir.Module.parse(source.read_text())
            passmanager.PassManager.parse('builtin.module(inline)').run(module.operation)
            converter_api_ext.set_signature(module.operation, SIGNATURE, [input_name], list(output_names))
            options = converter_api_ext.ConvertToTFLConfig()
            converter_api_ext.run_convert_to_tfl_passes(module, passmanager.PassManager(), options)
            content = converter_api_ext.export_flatbuffer_to_bytes(module.operation)
        source.with_suffix('.tflite').write_bytes(content)


if __name__ == '__main__':
    main(*sys.argv[1:])
