"""What a process does when it is asked to stop: by Ctrl-C (SIGINT), by a terminal that closes (SIGHUP), by SIGTERM.

While a run trains, each of the three has it save and end, on all hosts; a second Ctrl-C ends it at once. Before that,
and in commands that do not train, there is nothing to save: Ctrl-C ends the process, with one line and status 130.

Python runs a handler in the main thread only, between two of its own instructions: not while a program is compiled or
another host is waited for. So a thread of its own reads each signal when it comes, from a pipe that Python offers.
"""

import os
import signal
import sys
import threading

import jax
from jax.experimental import multihost_utils

from mobilenets_jax.hosts import broadcast_from_primary, start_all_gather

INTERRUPTED_STATUS = 130


class Interruptible:
    """While it is entered, Ctrl-C ends the process at once, whatever the main thread does, unless a run notes it.

    There is no `KeyboardInterrupt`: it could be raised in any line of any library, some of which print or swallow it,
    and only after a program is compiled. The process leaves the same state as a kill, from which a run resumes.
    Does nothing outside of the main thread, and where SIGINT is ignored.
    """

    def __enter__(self) -> 'Interruptible':
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._listens = in_main_thread and signal.getsignal(signal.SIGINT) != signal.SIG_IGN
        if self._listens:
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            threading.Thread(target=self._watch, args=[reader], name='interrupts', daemon=True).start()
            self._previous = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._handler = signal.signal(signal.SIGINT, _leave_to_the_thread)
        return self

    def __exit__(self, *exc_info):
        if self._listens:
            signal.signal(signal.SIGINT, self._handler)
            signal.set_wakeup_fd(self._previous, warn_on_full_buffer=False)
            os.close(self._writer)  # the thread ends

    def _watch(self, reader: int) -> None:
        noted = False
        while received := os.read(reader, 64):
            for _ in range(received.count(signal.SIGINT)):
                if noted or signal.getsignal(signal.SIGINT) is _leave_to_the_thread:
                    print('interrupted', file=sys.stderr, flush=True)
                    os._exit(INTERRUPTED_STATUS)
                line = 'Ctrl-C: the run saves and ends after this step; a second one ends it at once, unsaved'
                print(line, file=sys.stderr, flush=True)
                noted = True
        os.close(reader)


def _leave_to_the_thread(signum: int, frame) -> None:
    """A handler, or Python would not write the signal into the pipe."""


class StopSignals:
    """While it is entered, notes the signals that ask a run to stop; the loop asks for them after each step.

    Ctrl-C is noted from the first step on: before, there is nothing to save. A signal that is ignored, as SIGHUP is
    under nohup, stays ignored. With several processes JAX itself listens to SIGTERM, and tells all of them; the others
    are passed on to it as one.
    """

    def __init__(self):
        self._previous = {}
        self._received: str | None = None

    def __enter__(self) -> 'StopSignals':
        self._several = jax.process_count() > 1
        for signum in (signal.SIGHUP,) if self._several else (signal.SIGHUP, signal.SIGTERM):
            self._listen(signum)
        return self

    def __exit__(self, *exc_info):
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def reached(self, step: int) -> bool:
        """Whether to save and stop at `step`; becomes True on all processes at the same step.

        Every process must call it at every step.
        """
        self._listen(signal.SIGINT)
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received is not None

    def name(self) -> str:
        """The signal that was received, e.g. 'SIGINT', or one of them; the same on all processes, which all call it."""
        received = start_all_gather(self._received)
        return broadcast_from_primary(lambda: next(filter(None, received()), signal.SIGTERM.name))

    def _listen(self, signum: signal.Signals) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signum not in self._previous and signal.getsignal(signum) != signal.SIG_IGN:
            # None: a handler that Python did not install and cannot restore.
            self._previous[signum] = signal.signal(signum, self._note) or signal.SIG_DFL

    def _note(self, signum: int, frame) -> None:
        self._received = self._received or signal.Signals(signum).name
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
