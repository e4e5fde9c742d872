"""Boxes drawn upon images."""

from collections.abc import Sequence

import numpy as np

from mobilenets_jax.tables import printable

# Of the classes, and again from the first: Matplotlib's own ten.
COLOURS = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
)
TITLE_LENGTH = 28  # characters of a box's title
LEAST_TEXT = 9  # pixels
LEAST_WIDTH = 2  # pixels of an edge, which is still there at half the size


def class_colours(labels: np.ndarray) -> list[tuple[int, int, int]]:
    """The colour of each class."""
    return [COLOURS[label % len(COLOURS)] for label in labels]


def paint_boxes(image: np.ndarray, boxes: np.ndarray, titles: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """An image with boxes in the colours of their classes upon it, the first box above all others; uint8 [H, W, 3].

    Args:
        image: uint8 [H, W, 3].
        boxes: [ymin, xmin, ymax, xmax] in pixels, [n, 4].
        titles: the text at each box.
        labels: the class of each, int [n].
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    side = min(image.shape[:2])
    font, width = ImageFont.load_default(max(LEAST_TEXT, side // 32)), max(LEAST_WIDTH, side // 120)
    rows = list(zip(boxes, titles, class_colours(labels), strict=True))
    last = np.array([*image.shape[:2], *image.shape[:2]]) - 1  # an edge on the border stays in sight
    for box, title, colour in reversed(rows):
        top, left, bottom, right = np.clip(np.rint(box), 0, last).tolist()
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        _write(draw, printable(title, TITLE_LENGTH), (left, top), font, colour, picture.size)
    return np.asarray(picture)


def _write(draw, text: str, corner: tuple[float, float], font, colour: tuple[int, int, int], size: tuple[int, int]):
    """A title upon its colour above the upper left corner of a box, or inside it at the edge of the image."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 2, bottom - top + 2
    x = min(max(corner[0], 0), max(size[0] - width, 0))
    y = corner[1] - height if corner[1] >= height else max(corner[1], 0)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 1 - left, y + 1 - top), text, font=font, fill='white' if sum(colour) < 450 else 'black')
