"""The description in an exported file: TFLite metadata, with labels and anchors, and this project's own record.

TFLite's metadata are a flatbuffer inside of the file, and a zip archive behind it that holds the labels, and a
detector's anchors; Android Studio and MediaPipe read them. They do not know how an image is cropped: that, and which
network it is, is in the record.

Reference: metadata_schema.fbs 1.5 of TensorFlow Lite Support, by the places of its fields.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np

from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.errors import UserError, one_line
from mobilenets_jax.export import flatbuffer
from mobilenets_jax.export.lowering import OUTPUT
from mobilenets_jax.renamed_fields import with_new_paths

TFLITE = b'TFLITE_METADATA'
RECORD = b'mobilenets_jax'  # JSON
LABELS = 'labels.txt'
ANCHORS = 'anchors.csv'
ANCHOR_COLUMNS = 'y,x,height,width'  # of the centre and the sides, as fractions of the image
_IDENTIFIER = b'M001'
_IMAGE_PROPERTIES, _NORMALIZATION, _RGB, _AXIS_LABELS = 2, 1, 1, 2
_NEEDS_PARSER = '1.0.0'


def with_metadata(
    content: bytes, record: Mapping[str, Any], outputs: Sequence[str], labels: Sequence[str], anchors: np.ndarray | None
) -> bytes:
    """Adds metadata, labels and anchors to a file.

    Args:
        content: of a TFLite file with one input, images.
        record: JSON-able, with the 'model', the 'image_size' (height, width) and the 'normalization' of the images.
        outputs: the names of the file's outputs, in their order.
        labels: the names of the classes, in the order of the logits.
        anchors: of a detector, [A, 4], see `ANCHOR_COLUMNS`.
    """
    model = flatbuffer.unpack(content)
    model.metadata = list(model.metadata or [])
    texts = {TFLITE: _tflite_metadata(record, outputs), RECORD: json.dumps(record, sort_keys=True).encode()}
    for name, data in texts.items():
        entry, buffer = flatbuffer.schema().MetadataT(), flatbuffer.schema().BufferT()
        entry.name, entry.buffer, buffer.data = name, len(model.buffers), np.frombuffer(data, np.uint8)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    whole = io.BytesIO(flatbuffer.pack(model))
    files = {LABELS: '\n'.join(labels)}
    if anchors is not None:
        files[ANCHORS] = '\n'.join([ANCHOR_COLUMNS, *(','.join(map(str, row)) for row in anchors)])
    with zipfile.ZipFile(whole, 'a') as archive:  # with a fixed date, so that a file depends on the network alone
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), f'{text}\n')
    return whole.getvalue()


def read_record(content: bytes, label: str) -> dict[str, Any] | None:
    """The record in a file of this project, fields of its config under their names of today; None in any other file.

    Raises:
        UserError: the file is no TFLite file, or its record is damaged.
    """
    try:
        model = flatbuffer.unpack(content)
        entries = {entry.name: entry.buffer for entry in model.metadata or ()}
        if RECORD not in entries:
            return None
        record = json.loads(bytes(model.buffers[entries[RECORD]].data))
        known = {'task': str(record['task']), 'model': str(record['model']), 'class_names': list(record['class_names'])}
        return {**record, **known, 'config': _tuples(with_new_paths(record['config']))}
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, OverflowError) as error:
        reason = one_line(error)
        raise UserError(f'{label} cannot be read: {reason:.200}.') from error


def read_anchors(content: bytes, label: str) -> np.ndarray | None:
    """The anchors in a file of this project, float32 [A, 4]; None where it has none.

    Raises:
        UserError: they cannot be read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if ANCHORS not in archive.namelist():
                return None
            lines = archive.read(ANCHORS).decode().splitlines()
        return np.array([line.split(',') for line in lines[1:]], np.float32)
    except (zipfile.BadZipFile, ValueError) as error:
        raise UserError(f'{label}: its {ANCHORS} cannot be read: {error}.') from error


def _tuples(value: Any) -> Any:
    """`value` with tuples for lists, as configs have them."""
    if isinstance(value, dict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _tflite_metadata(record: Mapping[str, Any], outputs: Sequence[str]) -> bytes:
    """ModelMetadata of one subgraph with one image and the outputs."""
    builder = flatbuffers.Builder(1024)
    image = _table(
        builder,
        {
            0: _text(builder, 'images'),
            3: _content(builder, record['image_size']),
            4: _vector(builder, [_normalization(builder, record['normalization'])]),
        },
    )
    tensors = _vector(builder, [_output(builder, name) for name in outputs])
    subgraph = _table(builder, {2: _vector(builder, [image]), 3: tensors})
    fields = {0: _text(builder, record['model']), 3: _vector(builder, [subgraph]), 7: _text(builder, _NEEDS_PARSER)}
    builder.Finish(_table(builder, fields), _IDENTIFIER)
    return bytes(builder.Output())


Field = Callable[[flatbuffers.Builder, int], None]  # puts itself into the table that is being built, at a place


def _table(builder: flatbuffers.Builder, fields: Mapping[int, Field]) -> int:
    builder.StartObject(max(fields) + 1)
    for place, put in fields.items():
        put(builder, place)
    return builder.EndObject()


def _offset(made: int) -> Field:
    return lambda builder, place: builder.PrependUOffsetTRelativeSlot(place, made, 0)


def _byte(value: int) -> Field:
    return lambda builder, place: builder.PrependInt8Slot(place, value, 0)


def _number(value: int) -> Field:
    return lambda builder, place: builder.PrependUint32Slot(place, value, 0)


def _text(builder: flatbuffers.Builder, text: str) -> Field:
    return _offset(builder.CreateString(text))


def _vector(builder: flatbuffers.Builder, tables: Sequence[int]) -> Field:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return _offset(builder.EndVector())


def _output(builder: flatbuffers.Builder, name: str) -> int:
    """An output with the file that labels its numbers: the last axis of logits, or the rows of codes."""
    if name == OUTPUT:
        file = _table(builder, {0: _text(builder, LABELS), 2: _byte(_AXIS_LABELS)})
    else:
        what = f'the anchor of each row: {ANCHOR_COLUMNS}'
        file = _table(builder, {0: _text(builder, ANCHORS), 1: _text(builder, what)})
    return _table(builder, {0: _text(builder, name), 6: _vector(builder, [file])})


def _content(builder: flatbuffers.Builder, image_size: Sequence[int]) -> Field:
    """An RGB image of a height and width."""
    height, width = image_size
    size = _table(builder, {0: _number(width), 1: _number(height)})
    properties = _table(builder, {0: _byte(_RGB), 1: _offset(size)})
    return _offset(_table(builder, {0: _byte(_IMAGE_PROPERTIES), 1: _offset(properties)}))


def _normalization(builder: flatbuffers.Builder, normalization: str) -> int:
    """A process unit: how a pixel in 0 .. 255 becomes an input, (pixel - mean) / standard deviation."""
    mean, std = (builder.CreateNumpyVector(255 * np.array(x, np.float32)) for x in NORMALIZATIONS[normalization])
    options = _table(builder, {0: _offset(mean), 1: _offset(std)})
    return _table(builder, {0: _byte(_NORMALIZATION), 1: _offset(options)})
