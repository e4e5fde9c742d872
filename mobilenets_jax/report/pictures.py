"""Figures of Matplotlib as files."""

import io
from typing import Any


def png(figure: Any, dpi: int) -> bytes:
    """The bytes of a PNG of a figure, at this number of pixels an inch."""
    written = io.BytesIO()
    figure.savefig(written, dpi=dpi)
    return written.getvalue()
