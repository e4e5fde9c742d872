"""Tables as the commands print and write them, and the names in them."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence


def aligned(table: Sequence[Sequence[str]], text_columns: Collection[int]) -> list[str]:
    """The lines of a table: the columns numbered in `text_columns` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        '  '.join(
            cell.ljust(width) if column in text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def markdown(table: Sequence[Sequence[str]], text_columns: Collection[int]) -> list[str]:
    """The lines of a table in Markdown, whose first line is the header; columns as of `aligned`."""
    rule = ['---' if column in text_columns else '---:' for column in range(len(table[0]))]
    return [f'| {" | ".join(line)} |' for line in (table[0], rule, *table[1:])]


def comma_separated(lines: Iterable[Sequence[object]]) -> bytes:
    """The content of a file of comma-separated values."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(lines)
    # A file's name may be no text at all: it comes out as the bytes that it has on the disk.
    return text.getvalue().encode('utf-8', 'surrogateescape')


def output_names(class_names: Sequence[str], count: int) -> list[str]:
    """A name for each of the `count` outputs of a network, which may have more of them than there are classes."""
    return [*class_names, *(f'class {index}' for index in range(len(class_names), count))]


def printable(name: str, length: int) -> str:
    """A name as it can be drawn: of printable letters, and of at most `length`."""
    text = ''.join(letter if letter.isprintable() else '?' for letter in name)
    return text if len(text) <= length else f'{text[: length - 1]}…'
