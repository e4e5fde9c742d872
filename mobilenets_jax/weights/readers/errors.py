"""The error of every reader."""


class UnreadableFileError(ValueError):
    """The file is not what its format promises; the message says why, without the file's name."""
