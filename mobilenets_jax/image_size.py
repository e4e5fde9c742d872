"""The size of images as configs and callers give it."""

ImageSize = int | tuple[int, int]  # pixels: of both sides, or height and width


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Both sides of a size that is given as one number or as two."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
