"""StableHLO to TFLite by litert-converter, without TensorFlow, in a process of its own.

The converter is C++ that ends its process where a program is not to its liking. It has no front end for JAX: what is
called here is what litert-torch calls, which is not documented, so that pyproject.toml pins the version.
"""

import pathlib
import subprocess
import sys
import tempfile

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
    needed('litert_converter.converter_api_ext')
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, 'program.mlir'), pathlib.Path(folder, 'network.tflite')
        source.write_text(program)
        command = [sys.executable, '-m', __name__, str(source), str(target), input_name, *output_names]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise RunError(f'the converter was not ready after {TIMEOUT_SECONDS} s.') from None
        if ended.returncode or not target.exists():
            raise RunError(f'the converter failed (status {ended.returncode}): {_reason(ended.stderr)}.')
        content = target.read_bytes()
    unknown = [name for name in flatbuffer.operation_counts(content) if name.startswith(UNSUPPORTED)]
    if unknown:
        raise RunError(f'the network has operations that TFLite does not have: {", ".join(unknown)}.')
    return content


def _reason(output: str) -> str:
    """The line of the converter's output with the cause: its first error, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.partition('error: ')[2] for line in lines if 'error: ' in line]
    return f'{(errors or lines[-1:] or ["it says nothing"])[0]:.300}'.rstrip('.')


def main(source: str, target: str, input_name: str, *output_names: str) -> None:
    """Converts the program in the file `source` to the file `target`."""
    from litert_converter import converter_api_ext
    from litert_converter.mlir import ir, passmanager

    context = ir.Context()
    converter_api_ext.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(pathlib.Path(source).read_text())
        passmanager.PassManager.parse('builtin.module(inline)').run(module.operation)
        converter_api_ext.set_signature(module.operation, SIGNATURE, [input_name], list(output_names))
        options = converter_api_ext.ConvertToTFLConfig()
        converter_api_ext.run_convert_to_tfl_passes(module, passmanager.PassManager(), options)
        pathlib.Path(target).write_bytes(converter_api_ext.export_flatbuffer_to_bytes(module.operation))


if __name__ == '__main__':
    main(*sys.argv[1:])
