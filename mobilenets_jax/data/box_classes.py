"""The classes of boxes: their names, which of a file's are chosen, and what COCO and Pascal VOC call them.

A class's label is its place among the names, 0 .. number of classes - 1; background is none of them.
"""

import dataclasses
from collections.abc import Sequence

from mobilenets_jax.data.class_sets import CLASS_SETS
from mobilenets_jax.errors import UserError, check, check_choice

UNKNOWN = -1  # the label of a class that is none of those that are asked for

# COCO's ids of 2017 and 2014, 1 .. 90; ten of them are not used.
_COCO_ROWS = {
    1: 'person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant',
    13: 'stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe',
    27: 'backpack,umbrella',
    31: 'handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,'
    'surfboard,tennis racket,bottle',
    46: 'wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,'
    'chair,couch,potted plant,bed',
    67: 'dining table',
    70: 'toilet',
    72: 'tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator',
    84: 'book,clock,vase,scissors,teddy bear,hair drier,toothbrush',
}
COCO_CATEGORIES = {
    first + place: name for first, row in _COCO_ROWS.items() for place, name in enumerate(row.split(','))
}
BOX_CLASSES = {'coco': tuple(COCO_CATEGORIES.values()), 'voc': CLASS_SETS['voc'].names[1:]}  # without the background
_COCO_TO_VOC = {
    'airplane': 'aeroplane', 'couch': 'sofa', 'dining table': 'diningtable', 'motorcycle': 'motorbike',
    'potted plant': 'pottedplant', 'tv': 'tvmonitor',
}  # fmt: skip
OTHER_NAMES = _COCO_TO_VOC | {voc: coco for coco, voc in _COCO_TO_VOC.items()}


@dataclasses.dataclass(frozen=True)
class BoxOptions:
    """Which classes of a data set are learnt and measured.

    Attributes:
        classes: a key of `BOX_CLASSES`, whose names and order are taken; '': the source's own.
        class_names: the same by the names themselves; (): those of `classes`.
    """

    classes: str = ''
    class_names: tuple[str, ...] = ()

    def __post_init__(self):
        if self.classes:
            check_choice('data.classes', self.classes, BOX_CLASSES)
            check(
                not self.class_names, 'data.classes', self.classes, 'names classes, as data.class_names does: set one'
            )
        names = tuple(self.class_names)
        check(len(set(names)) == len(names), 'data.class_names', names, 'must differ from each other')

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names, by label; () for the source's own."""
        return BOX_CLASSES[self.classes] if self.classes else tuple(self.class_names)


def label_of(name: str, class_names: Sequence[str]) -> int:
    """The label of a class by its name in a file, which may be COCO's for a class of VOC, or the other way round."""
    for spelling in (name, OTHER_NAMES.get(name)):
        if spelling in class_names:
            return class_names.index(spelling)
    return UNKNOWN


def sparse_names(categories: dict[int, str]) -> tuple[str, ...]:
    """The names by id - 1, where COCO's published networks have their classes; 'unused 12' for an id without a class.

    Raises:
        UserError: an id is not positive.
    """
    least = min(categories)
    if least < 1:
        raise UserError(f"data.coco_ids='sparse' needs ids from 1 on; {categories[least]!r} has the id {least}.")
    return tuple(categories.get(number, f'unused {number}') for number in range(1, max(categories) + 1))
