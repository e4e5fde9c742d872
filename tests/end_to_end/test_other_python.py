"""A checkpoint does not depend on the Python and the JAX under which it was saved.

MOBILENETS_JAX_OTHER_PYTHON names the interpreter of another environment.
"""

import os
import signal
import subprocess
import sys

import pytest
from launching import PRECISE_RUN, assert_states_agree, read_state

OTHER = os.environ.get('MOBILENETS_JAX_OTHER_PYTHON', '')

pytestmark = pytest.mark.skipif(not OTHER, reason='MOBILENETS_JAX_OTHER_PYTHON names no other interpreter')


def _version(python: str) -> str:
    command = [python, '-c', 'import sys, jax; print(sys.version_info[:2], jax.__version__)']
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_run_is_resumed_with_another_python(launcher, tmp_path):
    assert _version(OTHER) != _version(sys.executable)
    straight = launcher.train(tmp_path / 'straight', fields=PRECISE_RUN).end()
    assert straight.status == 0, straight
    begun = launcher.train(tmp_path / 'handed', fields=PRECISE_RUN, python=OTHER)
    assert begun.read('step 4/8'), begun.end()
    begun.send(signal.SIGTERM)
    stopped = begun.end()
    assert stopped.status == 0 and stopped.output[-1].startswith('stopped by SIGTERM'), stopped
    ended = launcher.train(tmp_path / 'handed', fields=PRECISE_RUN).end()
    assert ended.status == 0, ended
    assert any(line.startswith('going on from the checkpoint of step') for line in ended.output), ended
    one, other = (read_state(tmp_path / name, PRECISE_RUN['num_steps']) for name in ('straight', 'handed'))
    assert_states_agree(one, other)
