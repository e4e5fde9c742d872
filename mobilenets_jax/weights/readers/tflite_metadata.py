"""What the metadata of a TFLite file say about its input: a flatbuffer of its own, inside of the file.

Reference: metadata_schema.fbs 1.5 of TensorFlow Lite Support; only the fields on the way to the normalization are read.
"""

import flatbuffers
import numpy as np
from flatbuffers.number_types import Float32Flags, UOffsetTFlags

NAME = b'TFLITE_METADATA'
# Fields of ModelMetadata, SubGraphMetadata, TensorMetadata, ProcessUnit and NormalizationOptions, by their places.
_SUBGRAPHS, _INPUTS, _PROCESS_UNITS, _OPTIONS_TYPE, _OPTIONS, _MEAN, _STD = 3, 2, 4, 0, 1, 0, 1
_NORMALIZATION = 1  # among the options of a process unit

Table = flatbuffers.table.Table


def normalization(content: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation of pixels in [0, 255], float32 [1] or [3], where the metadata give them."""
    root = Table(content, flatbuffers.encode.Get(UOffsetTFlags.packer_type, content, 0))
    for subgraph in _tables(root, _SUBGRAPHS)[:1]:
        for tensor in _tables(subgraph, _INPUTS)[:1]:
            for unit in _tables(tensor, _PROCESS_UNITS):
                kind, options = _offset(unit, _OPTIONS_TYPE), _offset(unit, _OPTIONS)
                if kind and options and unit.Bytes[unit.Pos + kind] == _NORMALIZATION:
                    table = Table(content, 0)
                    unit.Union(table, options)
                    mean, std = _floats(table, _MEAN), _floats(table, _STD)
                    return (mean, std) if mean.size in (1, 3) and std.size in (1, 3) else None
    return None


def _offset(table: Table, field: int) -> int:
    """The offset of a field from its table; 0 if it is not set."""
    return table.Offset(4 + 2 * field)


def _tables(table: Table, field: int) -> list[Table]:
    """The elements of a vector of tables."""
    offset = _offset(table, field)
    if not offset:
        return []
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))]


def _floats(table: Table, field: int) -> np.ndarray:
    offset = _offset(table, field)
    return table.GetVectorAsNumpy(Float32Flags, offset) if offset else np.zeros(0, np.float32)
