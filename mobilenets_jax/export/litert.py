"""LiteRT: a TFLite file of an image network as a function of images, and what of it runs in a delegate."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.export.packages import needed, quiet

DELEGATE = 'DELEGATE'


@dataclasses.dataclass(frozen=True)
class Scale:
    """How a tensor stores numbers: as scale * (stored - zero), or as they are.

    Attributes:
        dtype: of what is stored.
        scale: None of a float tensor.
        zero: the stored number that stands for 0.
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
    """A TFLite file that maps one image to one vector, run by LiteRT.

    Args:
        content: of the file.
        label: what messages call it.
        threads: that run it.

    Attributes:
        image_size: height and width of the images, in pixels.
        num_outputs: length of the vector.
        delegates: how many parts of the graph delegates run; 1 where the whole graph runs in one.
        float_input: whether the images are stored as float32.

    Raises:
        UserError: LiteRT cannot run the file, or it is another network.
    """

    def __init__(self, content: bytes, label: str, threads: int = 1):
        self._interpreter = interpreter(content, label, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shapes = [[list(map(int, details['shape'])) for details in side] for side in (inputs, outputs)]
        images, vectors = shapes
        fits = len(images) == len(vectors) == 1 and len(images[0]) == 4 and images[0][0] == 1 and images[0][3] == 3
        if not fits or int(np.prod(vectors[0])) != vectors[0][-1]:
            raise UserError(f'{label} maps {images} to {vectors}, where [1, H, W, 3] to [1, classes] is asked for.')
        self.image_size, self.num_outputs = tuple(images[0][1:3]), vectors[0][-1]
        self._input, self._output = inputs[0]['index'], outputs[0]['index']
        self._input_scale = Scale.of(inputs[0], f'the input of {label}')
        self._output_scale = Scale.of(outputs[0], f'the output of {label}')
        self.float_input = self._input_scale.scale is None
        self.delegates = delegate_count(self._interpreter)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Outputs, float32 [n, num_outputs], of normalised images, float32 [n, H, W, 3]."""
        return np.concatenate([self._run(image) for image in images])

    def _run(self, image: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, self._input_scale.store(image[None]))
        self._interpreter.invoke()
        return self._output_scale.read(self._interpreter.get_tensor(self._output)).reshape(1, -1)


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
    # LiteRT tells nobody else what its delegates took.
    return sum(step['op_name'] == DELEGATE for step in ready._get_ops_details())


def read_file(path: str) -> bytes:
    """The bytes of a file; raises `UserError` where it cannot be read."""
    try:
        return pathlib.Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from error
