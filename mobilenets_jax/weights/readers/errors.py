"""The error of every reader, and the sizes beyond which a file is no mobile network's.

A small file may claim to hold terabytes, or unpack to them. So every reader adds up what a file claims, from its
headers alone, and hands the sum to `check_bytes` before it allocates, unpacks or reads it.
"""

MAX_WEIGHTS_BYTES = (
    1 << 30
)  # of a file, of its unpacked content, and of all its arrays: far more than any mobile network
MAX_TEXT_BYTES = 1 << 24  # of JSON, which takes many times its size in memory
MAX_IMAGE_SIZE = 2048  # pixels, height and width of a network's input


class UnreadableFileError(ValueError):
    """The file does not follow its format; the message says why, without the file's name."""


def check_bytes(what: str, count: int, limit: int | None = None) -> None:
    """Raises `UnreadableFileError` where a file claims too much.

    Args:
        what: subject and verb of the message, e.g. 'its tensors have'.
        count: the bytes that are claimed.
        limit: by default `MAX_WEIGHTS_BYTES`.
    """
    limit = MAX_WEIGHTS_BYTES if limit is None else limit
    if count > limit:
        raise UnreadableFileError(f'{what} more than {limit} bytes')
