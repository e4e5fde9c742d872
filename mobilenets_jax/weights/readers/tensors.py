"""PyTorch's tensors as a file describes them: views of flat storages, read when they are asked for."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from mobilenets_jax.weights.readers.errors import UnreadableFileError


@dataclasses.dataclass(frozen=True)
class Storage:
    """The flat bytes that one or more tensors look at.

    Attributes:
        key: its name in the file.
        dtype: of its elements.
        load: reads its bytes.
    """

    key: str
    dtype: np.dtype
    load: Callable[['Storage'], bytes]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self):
        numbers = (self.offset, *self.shape, *self.strides)
        whole = all(isinstance(number, int) for number in numbers)
        if not whole or len(self.shape) != len(self.strides) or min(numbers) < 0:
            raise UnreadableFileError('a tensor has a shape or strides that are none')

    @property
    def nbytes(self) -> int:
        """How many bytes the array will have."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def array(self) -> np.ndarray:
        """Its elements; raises `UnreadableFileError` if they are beyond the storage."""
        flat = np.frombuffer(self.storage.load(self.storage), self.storage.dtype)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        elements = math.prod(self.shape)
        if elements > flat.size or (elements and last >= flat.size):
            raise UnreadableFileError('a tensor reaches beyond its storage')
        strides = [stride * flat.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides).copy()
