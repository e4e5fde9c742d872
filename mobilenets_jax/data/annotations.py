"""The boxes of an image as the files of a data set have them: what detection is measured against."""

from typing import NamedTuple

import numpy as np


class Annotations(NamedTuple):
    """An image and its objects.

    Training has boxes as parts of the image, cut off at its edges, without crowds; here they are as in the files.

    Attributes:
        name: of the image, such as the path of its file.
        image_id: its number in the data set's own files, or its place in the split where these have none.
        height: of the image, in pixels.
        width: as well.
        boxes: float32 [n, 4], [ymin, xmin, ymax, xmax] in pixels of the image, from its upper left corner on.
        labels: int32 [n], 0 .. number of classes - 1.
        area: float32 [n], of the object, in square pixels: COCO's own, which is that of its mask; else of its box.
        crowd: bool [n], whether it is a region of many objects (COCO's `iscrowd`).
        difficult: bool [n], whether VOC calls it difficult.
    """

    name: str
    image_id: int
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray

    def select(self, kept: np.ndarray) -> 'Annotations':
        """The image with those of its objects that `kept`, bool [n], says."""
        arrays = (self.boxes, self.labels, self.area, self.crowd, self.difficult)
        return Annotations(self.name, self.image_id, self.height, self.width, *(array[kept] for array in arrays))
