"""The error of every reader, and the size beyond which a file is no mobile network's."""

MAX_WEIGHTS_BYTES = 1 << 30  # far above any mobile network; what a file says beyond it is a mistake or a bomb


class UnreadableFileError(ValueError):
    """The file is not what its format promises; the message says why, without the file's name."""
