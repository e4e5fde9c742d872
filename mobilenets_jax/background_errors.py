"""What other libraries print from threads and at exit when a disk is full or a folder is gone: hundreds of lines.

The main thread prints one line on the error that ended the run. File errors of other threads are one line, too.
"""

import atexit
import logging
import os
import sys
import threading
from typing import NoReturn


def quiet() -> None:
    """From now on omits tracebacks that repeat the error of the main thread, and shortens others."""
    print_thread_traceback, print_unraisable = threading.excepthook, sys.unraisablehook

    def thread_excepthook(arguments):
        if not _print_if_os_error(arguments.exc_value, f'thread {getattr(arguments.thread, "name", "unknown")}'):
            print_thread_traceback(arguments)

    def unraisablehook(arguments):
        # TensorStore's threads tell an event loop of Orbax that they are done, which a failed save has closed.
        closed = isinstance(arguments.exc_value, RuntimeError) and str(arguments.exc_value) == 'Event loop is closed'
        if not closed and not _print_if_os_error(arguments.exc_value, 'at exit, or when a file was closed'):
            print_unraisable(arguments)

    threading.excepthook, sys.unraisablehook = thread_excepthook, unraisablehook
    logging.getLogger('absl').addFilter(_is_new)


def end(status: int) -> NoReturn:
    """Ends the process as `sys.exit` does, but at once: while Python takes itself apart, its own hooks are back."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _print_if_os_error(error: BaseException | None, where: str) -> bool:
    """Prints one line for the error of a file, and returns whether it was one."""
    if isinstance(error, OSError):
        print(f'{where}: {error}', file=sys.stderr, flush=True)
    return isinstance(error, OSError)


def _is_new(record: logging.LogRecord) -> bool:
    """Whether a log entry is not of an exception that Orbax also raises."""
    return not (record.exc_info and 'orbax' in record.pathname)
