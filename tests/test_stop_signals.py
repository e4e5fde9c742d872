"""The signals that ask a run to stop are noted while it trains, and given back afterwards."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mobilenets_jax.stop_signals import Interruptible, StopSignals

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)

WORKER = """
import sys, time
from mobilenets_jax.stop_signals import Interruptible, StopSignals

with Interruptible():
    try:
        if sys.argv[1] == 'training':
            with StopSignals() as stop_signals:
                stop_signals.reached(1)
                print('ready', flush=True)
                while not stop_signals.reached(2):
                    time.sleep(0.01)
                print('noted', stop_signals.name(), flush=True)
                time.sleep(60)
        else:
            print('ready', flush=True)
            time.sleep(60)
    finally:
        print('in order', flush=True)
"""


@pytest.fixture
def default_signals():
    """The three signals as a process finds them that somebody started at a terminal."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for signum in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    yield {signum: signal.getsignal(signum) for signum in SIGNALS}
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize('signum', SIGNALS)
def test_signal_is_noted_named_and_given_back(signum, default_signals):
    with StopSignals() as stop_signals:
        assert not stop_signals.reached(1)
        os.kill(os.getpid(), signum)
        assert stop_signals.reached(2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_signals.reached(3)
        assert stop_signals.name() == signum.name  # the first one
    assert {signum: signal.getsignal(signum) for signum in SIGNALS} == default_signals


def test_ctrl_c_before_the_first_step_is_not_noted(default_signals):
    with StopSignals() as stop_signals:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # a machine that is taken away does not wait: noted from the start
        assert stop_signals.reached(1) and stop_signals.name() == 'SIGTERM'


def test_signal_that_is_ignored_stays_ignored(default_signals):
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    with Interruptible(), StopSignals() as stop_signals:
        assert not stop_signals.reached(1)
        for signum in SIGNALS:
            os.kill(os.getpid(), signum)
        assert not stop_signals.reached(2)
    assert {signal.getsignal(signum) for signum in SIGNALS} == {signal.SIG_IGN}


def test_only_the_main_thread_listens(default_signals):
    def enter():
        with Interruptible(), StopSignals() as stop_signals:
            assert not stop_signals.reached(1)
            seen.append({signum: signal.getsignal(signum) for signum in SIGNALS})

    seen = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [default_signals]


def test_interruptible_leaves_no_trace(default_signals):
    threads = set(threading.enumerate())
    with Interruptible():
        assert signal.getsignal(signal.SIGINT) != default_signals[signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) == default_signals[signal.SIGINT]
    assert signal.set_wakeup_fd(-1) == -1
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ('doing', 'interrupts', 'output', 'errors'),
    [
        ('working', 1, [], ['interrupted']),
        (
            'training',
            2,
            ['noted SIGINT'],
            ['Ctrl-C: the run saves and ends after this step; a second one ends it at once, unsaved', 'interrupted'],
        ),
    ],
)
def test_ctrl_c_ends_a_process_with_one_line(doing, interrupts, output, errors, default_signals):
    process = subprocess.Popen(
        [sys.executable, '-c', WORKER, doing], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    assert process.stdout.readline() == 'ready\n'
    said = []
    for number in range(interrupts):
        if number:
            said.append(process.stdout.readline().strip())
        process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate()
    watchdog.cancel()
    assert (process.returncode, said + rest.splitlines(), stderr.splitlines()) == (130, output, errors)
