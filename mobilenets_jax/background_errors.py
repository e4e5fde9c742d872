"""What other libraries print from threads and at exit when a disk is full or a folder is gone: hundreds of lines.

The main thread says in one line what ended the run. Of these errors, those of files are one line, too.
"""

import logging
import sys
import threading


def quiet() -> None:
    """From now on leaves out tracebacks that say once more what the main thread raises, and shortens others."""
    print_traceback, print_thread_traceback, print_unraisable = (
        sys.excepthook,
        threading.excepthook,
        sys.unraisablehook,
    )

    def excepthook(kind, error, traceback):
        # TensorStore's threads tell an event loop of Orbax that they are done, which a failed save has closed.
        if not (kind is RuntimeError and str(error) == 'Event loop is closed'):
            print_traceback(kind, error, traceback)

    def thread_excepthook(arguments):
        if not _say(arguments.exc_value, f'thread {getattr(arguments.thread, "name", "unknown")}'):
            print_thread_traceback(arguments)

    def unraisablehook(arguments):
        if not _say(arguments.exc_value, 'at exit, or when a file was closed'):
            print_unraisable(arguments)

    sys.excepthook, threading.excepthook, sys.unraisablehook = excepthook, thread_excepthook, unraisablehook
    logging.getLogger('absl').addFilter(_is_new)


def _say(error: BaseException | None, where: str) -> bool:
    """Prints one line for the error of a file, and returns whether it was one."""
    if isinstance(error, OSError):
        print(f'{where}: {error}', file=sys.stderr, flush=True)
    return isinstance(error, OSError)


def _is_new(record: logging.LogRecord) -> bool:
    """Whether a log entry is not of an exception that Orbax also raises."""
    return not (record.exc_info and 'orbax' in record.pathname)
