"""What an exported file says about itself: TFLite metadata, with its labels, and this project's own record.

TFLite's metadata are a flatbuffer inside of the file, and a zip archive behind it that holds the labels; Android Studio
and MediaPipe read them. They do not know how an image is cropped: that, and which network it is, stands in the record.

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
from mobilenets_jax.errors import UserError
from mobilenets_jax.export import flatbuffer

TFLITE = b'TFLITE_METADATA'
RECORD = b'mobilenets_jax'  # JSON
LABELS = 'labels.txt'
_IDENTIFIER = b'M001'
_IMAGE_PROPERTIES, _NORMALIZATION, _RGB, _AXIS_LABELS = 2, 1, 1, 2
_NEEDS_PARSER = '1.0.0'


def with_metadata(content: bytes, record: Mapping[str, Any], labels: Sequence[str]) -> bytes:
    """Adds metadata and labels to a file.

    Args:
        content: of a TFLite file with one input, images, and one output, a logit for each label.
        record: JSON-able; its 'preprocessing' has the 'image_size' and the 'value_range' of `weights.Preprocessing`.
        labels: the names of the classes, in the order of the outputs.
    """
    model = flatbuffer.unpack(content)
    model.metadata = list(model.metadata or [])
    for name, data in ((TFLITE, _tflite_metadata(record)), (RECORD, json.dumps(record, sort_keys=True).encode())):
        entry, buffer = flatbuffer.schema().MetadataT(), flatbuffer.schema().BufferT()
        entry.name, entry.buffer, buffer.data = name, len(model.buffers), np.frombuffer(data, np.uint8)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    whole = io.BytesIO(flatbuffer.pack(model))
    with zipfile.ZipFile(whole, 'a') as archive:  # with a fixed date, so that a file depends on the network alone
        archive.writestr(zipfile.ZipInfo(LABELS, (1980, 1, 1, 0, 0, 0)), '\n'.join(labels) + '\n')
    return whole.getvalue()


def read_record(content: bytes, label: str) -> dict[str, Any] | None:
    """The record in a file of this project; None in any other.

    Raises:
        UserError: the file is no TFLite file, or its record is damaged.
    """
    try:
        model = flatbuffer.unpack(content)
        entries = {entry.name: entry.buffer for entry in model.metadata or ()}
        if RECORD not in entries:
            return None
        record = json.loads(bytes(model.buffers[entries[RECORD]].data))
        return {'preprocessing': dict(record['preprocessing']), **record}
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, OverflowError) as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(f'{label} cannot be read: {reason:.200}.') from error


def _tflite_metadata(record: Mapping[str, Any]) -> bytes:
    """ModelMetadata of one subgraph with one image and one vector."""
    builder = flatbuffers.Builder(1024)
    preprocessing = record['preprocessing']
    image = _table(
        builder,
        {
            0: _text(builder, 'images'),
            3: _content(builder, preprocessing['image_size']),
            4: _vector(builder, [_normalization(builder, preprocessing['value_range'])]),
        },
    )
    labels = _table(builder, {0: _text(builder, LABELS), 2: _byte(_AXIS_LABELS)})
    logits = _table(builder, {0: _text(builder, 'logits'), 6: _vector(builder, [labels])})
    subgraph = _table(builder, {2: _vector(builder, [image]), 3: _vector(builder, [logits])})
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


def _content(builder: flatbuffers.Builder, image_size: int) -> Field:
    """An RGB image of a size."""
    size = _table(builder, {0: _number(image_size), 1: _number(image_size)})
    properties = _table(builder, {0: _byte(_RGB), 1: _offset(size)})
    return _offset(_table(builder, {0: _byte(_IMAGE_PROPERTIES), 1: _offset(properties)}))


def _normalization(builder: flatbuffers.Builder, value_range: str) -> int:
    """A process unit: how a pixel in 0 .. 255 becomes an input, (pixel - mean) / standard deviation."""
    mean, std = (builder.CreateNumpyVector(255 * np.array(x, np.float32)) for x in NORMALIZATIONS[value_range])
    options = _table(builder, {0: _offset(mean), 1: _offset(std)})
    return _table(builder, {0: _byte(_NORMALIZATION), 1: _offset(options)})
