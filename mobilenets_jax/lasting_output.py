"""Closed output does not end a run: a terminal that was closed, or a `tee` that Ctrl-C ended."""

import os
import sys
from typing import TextIO


class LastingOutput:
    """A stream that writes into nothing once it cannot be written to.

    Args:
        stream: of a file, a pipe or a terminal.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes all of the text, or none."""
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or drops it."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def _give_up(self) -> None:
        discard(self._stream)
        if self._stream is sys.__stdout__:
            print('nobody reads the output any more; the run goes on', file=sys.stderr)


def discard(stream: TextIO) -> None:
    """Lets what is written to a stream, and what it holds in its buffer, go nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def install() -> None:
    """Makes standard output and standard error last."""
    sys.stdout, sys.stderr = LastingOutput(sys.stdout), LastingOutput(sys.stderr)
