"""Tables as the commands print them."""

from collections.abc import Collection, Sequence


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
