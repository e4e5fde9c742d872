"""Ends a process that hangs: a blocked data thread or collective would otherwise block a whole pod for ever."""

import faulthandler
import sys


class Watchdog:
    """A context in which `reset` must be called often enough; else all threads' stacks are printed and status is 1.

    The stacks say what blocked. It is a thread of C that does this, so that it works whatever Python does. Where there
    are several processes, the others miss this one's heartbeat and end too.

    Args:
        timeout_seconds: the longest time between two resets; positive.
    """

    def __init__(self, timeout_seconds: float):
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> 'Watchdog':
        self.reset()
        return self

    def __exit__(self, *exc_info):
        faulthandler.cancel_dump_traceback_later()

    def reset(self) -> None:
        """Restarts the time."""
        # Not sys.stderr, which need not be a file.
        faulthandler.dump_traceback_later(self._timeout_seconds, exit=True, file=sys.__stderr__ or 2)
