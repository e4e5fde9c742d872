"""What threads of other libraries print when a disk is full or a folder is gone: hundreds of lines with nothing new.

The error itself reaches the main thread, which says it in one line.
"""

import logging
import sys
import threading

from mobilenets_jax.errors import describe


def quiet() -> None:
    """From now on leaves out tracebacks that say once more what the main thread raises; a thread's own are one line."""
    print_traceback, print_thread_traceback = sys.excepthook, threading.excepthook

    def excepthook(kind, error, traceback):
        # TensorStore's threads tell an event loop of Orbax that they are done, which a failed save has closed.
        if not (kind is RuntimeError and str(error) == 'Event loop is closed'):
            print_traceback(kind, error, traceback)

    def thread_excepthook(arguments):
        described = isinstance(arguments.exc_value, OSError) and describe(arguments.exc_value)
        if not described:
            print_thread_traceback(arguments)

    sys.excepthook, threading.excepthook = excepthook, thread_excepthook
    logging.getLogger('absl').addFilter(_is_new)


def _is_new(record: logging.LogRecord) -> bool:
    """Whether a log entry is not of an exception that Orbax also raises."""
    return not (record.exc_info and 'orbax' in record.pathname)
