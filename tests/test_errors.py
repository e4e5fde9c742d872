"""What is no bug of ours is said in one line; what is one keeps its traceback."""

import errno
import re
import subprocess
import sys

import pytest

from mobilenets_jax import __main__
from mobilenets_jax.config import write_text
from mobilenets_jax.errors import RunError, UserError, check_choice, describe, did_you_mean


@pytest.mark.parametrize(
    ('error', 'line', 'status'),
    [
        (UserError('seed=-1 must be in [0, 2**31).'), r'seed=-1 must be in \[0, 2\*\*31\)\.', 2),
        (RunError('The loss is not finite.'), r'The loss is not finite\.', 1),
        (FileNotFoundError(errno.ENOENT, 'No such file', '/no/file'), '/no/file: No such file.', 1),
        (OSError(errno.ENOSPC, 'No space left', '/no/file'), r'/no/file: No space left \(\d+\.\d GB free\)\.', 1),
        (OSError(errno.ENOSPC, 'No space left', 'gs://bucket/x'), 'gs://bucket/x: No space left.', 1),
        (PermissionError(errno.EACCES, 'Permission denied', b'/no/\xff'), '/no/\udcff: Permission denied.', 1),
        (BrokenPipeError(errno.EPIPE, 'Broken pipe'), 'nobody reads the output.', 1),
    ],
)
def test_errors_that_are_no_bugs_are_one_line(error, line, status):
    said, with_status = describe(error)
    assert re.fullmatch(line, said) and with_status == status


@pytest.mark.parametrize('error', [ValueError('x'), OSError('truncated'), KeyError('x'), RuntimeError('x')])
def test_bugs_keep_their_traceback(error):
    assert describe(error) is None


@pytest.mark.parametrize(
    ('value', 'hint'),
    [
        ('mobilenet_v9', " Did you mean 'mobilenet_v1'?"),
        ('mobilnet_v3_small', " Did you mean 'mobilenet_v3_small'?"),
        ('lion', ''),
        (None, ''),
    ],
)
def test_choice_that_is_like_a_known_one_is_suggested(value, hint):
    choices = ['resnet50', 'mobilenet_v1', 'mobilenet_v3_small']
    assert did_you_mean(value, choices) == hint
    with pytest.raises(UserError) as error:
        check_choice('model.name', value, choices)
    known = 'mobilenet_v1, mobilenet_v3_small, resnet50'
    assert str(error.value) == f'model.name={value!r} is unknown. Known: {known}.{hint}'


def test_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    with pytest.raises(NotADirectoryError) as error:
        write_text('/dev/full/x', 'y')
    assert error.value.filename == '/dev/full/x'
    (tmp_path / 'folder').mkdir()
    with pytest.raises(OSError) as error:
        write_text(tmp_path / 'folder', 'y')
    assert error.value.filename == str(tmp_path / 'folder')
    assert [path.name for path in tmp_path.iterdir()] == ['folder']


def test_file_that_a_command_cannot_write_is_one_line(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert __main__.main(['prepare', str(tmp_path), str(tmp_path / 'file' / 'records')]) in (1, 2)
    assert capsys.readouterr().err.count('\n') == 1


@pytest.mark.parametrize('command', [['-m', 'mobilenets_jax', 'models'], ['train.py', '--help']])
def test_pipe_that_is_closed_is_no_traceback(command):
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(timeout=60), errors) == (1, 'error: nobody reads the output.\n')


def test_help_lists_flags_and_fields():
    ended = subprocess.run([sys.executable, 'eval.py', '--help'], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, '')
    lines = ended.stdout.splitlines()
    assert lines[0].startswith('Evaluates a checkpoint: `python eval.py --workdir=W')
    (line,) = [line for line in lines if line.lstrip().startswith('--step ')]
    assert line.endswith("Step to evaluate, or 'best'; the newest intact one by default.")
    assert 'configs/base.py' in lines[-1]
