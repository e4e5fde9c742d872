"""LiteRT: a TFLite file of an image network as a function of images, and what of it runs in a delegate."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilenets_jax.errors import UserError, needed
from mobilenets_jax.export.lowering import OUTPUT
from mobilenets_jax.export.packages import quiet

DELEGATE = 'DELEGATE'


@dataclasses.dataclass(frozen=True)
class Scale:
    """How a tensor stores numbers: as scale * (stored - zero), or as they are.

    Attributes:
        dtype: of what is stored.
        scale: None of a float tensor.
        zero: the stored number of the value 0.
    """

    dtype: np.dtype
    scale: float | None
    zero: int

    @classmethod
    def of(cls, details: dict[str, Any], what: str) -> 'Scale':
        """From LiteRT's details of a tensor; raises `UserError` where numbers cannot be stored in it."""
        dtype, (scale, zero) = np.dtype(details['dtype']), details['quantization']
        if dtype == np.float32:
            return cls(dtype, None, 0)
        if dtype.name not in ('int8', 'uint8', 'int16') or not scale:
            raise UserError(f'{what} is {dtype.name} without a scale; float32, or int8, uint8 or int16 with one is run')
        return cls(dtype, float(scale), int(zero))

    def store(self, numbers: np.ndarray) -> np.ndarray:
        """Rounds to the nearest number that can be stored."""
        if self.scale is None:
            return numbers.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return np.clip(np.round(numbers / self.scale) + self.zero, limits.min, limits.max).astype(self.dtype)

    def read(self, stored: np.ndarray) -> np.ndarray:
        """The numbers that are stored, float32."""
        return stored if self.scale is None else ((stored.astype(np.float32) - self.zero) * np.float32(self.scale))


class LiteNetwork:
    """A TFLite file that takes one image, run by LiteRT.

    Args:
        content: of the file.
        label: what messages call it.
        threads: that run it.

    Attributes:
        image_size: height and width of the images, in pixels.
        shapes: of what it returns for an image, by name; a file with one output has 'logits', whatever it calls them.
        delegates: how many parts of the graph delegates run; 1 where the whole graph runs in one.
        float_input: whether the images are stored as float32.

    Raises:
        UserError: LiteRT cannot run the file, or it is another network.
    """

    def __init__(self, content: bytes, label: str, threads: int = 1):
        self._interpreter = interpreter(content, label, threads)
        inputs, outputs = self._interpreter.get_input_details(), _outputs(self._interpreter)
        images = [_shape(details) for details in inputs]
        if len(images) != 1 or len(images[0]) != 4 or images[0][0] != 1 or images[0][3] != 3:
            raise UserError(f'{label} takes {images}, where one image [1, H, W, 3] is asked for.')
        if outputs is None:
            shapes = [_shape(details) for details in self._interpreter.get_output_details()]
            raise UserError(f'{label} returns {shapes} without names, which the files of this project have.')
        self.image_size = tuple(images[0][1:3])
        self.shapes = {name: _without_batch(_shape(details)) for name, details in outputs.items()}
        self._input, self._input_scale = inputs[0]['index'], Scale.of(inputs[0], f'the input of {label}')
        self._outputs = {
            name: (details['index'], Scale.of(details, f'the output of {label}')) for name, details in outputs.items()
        }
        self.float_input = self._input_scale.scale is None
        self.delegates = delegate_count(self._interpreter)

    def __call__(self, images: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """Outputs, float32 [n, ...], of normalised images, float32 [n, H, W, 3]: an array, or several by their name."""
        made = {name: np.empty((len(images), *shape), np.float32) for name, shape in self.shapes.items()}
        for place, image in enumerate(images):
            self._interpreter.set_tensor(self._input, self._input_scale.store(image[None]))
            self._interpreter.invoke()
            for name, (index, scale) in self._outputs.items():
                made[name][place] = scale.read(self._interpreter.get_tensor(index)).reshape(self.shapes[name])
        return made[OUTPUT] if [*made] == [OUTPUT] else made


def _outputs(network: Any) -> Mapping[str, dict[str, Any]] | None:
    """LiteRT's details of the outputs by name; None where there are several and their names are not known."""
    details = network.get_output_details()
    if len(details) == 1:
        return {OUTPUT: details[0]}
    if len(network.get_signature_list()) != 1:
        return None
    return dict(sorted(network.get_signature_runner().get_output_details().items()))


def _shape(details: Mapping[str, Any]) -> list[int]:
    return [*map(int, details['shape'])]


def _without_batch(shape: list[int]) -> tuple[int, ...]:
    """The shape of an output for one image, without the axes of a map of one pixel that some files have."""
    return (shape[-1],) if np.prod(shape) == shape[-1] else tuple(shape[1:])


def interpreter(content: bytes, label: str, threads: int = 1, **options: Any) -> Any:
    """LiteRT's interpreter of a file, ready to run; raises `UserError` where it cannot run it."""
    litert = needed('ai_edge_litert.interpreter')
    with quiet():
        try:
            made = litert.Interpreter(model_content=content, num_threads=threads, **options)
            made.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = ' '.join(str(error).split())
            raise UserError(f'{label} is no TFLite file that LiteRT can run: {reason:.200}') from error
    return made


def delegate_count(ready: Any) -> int:
    """How many parts of the graph of an `interpreter` delegates run; 1 where the whole graph runs in one."""
    # LiteRT has no other way to find out what its delegates run.
    return sum(step['op_name'] == DELEGATE for step in ready._get_ops_details())


def read_file(path: str) -> bytes:
    """The bytes of a file; raises `UserError` where it cannot be read."""
    try:
        return pathlib.Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from error
