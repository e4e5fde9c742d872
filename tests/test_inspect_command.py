"""`inspect`: its numbers and its picture."""

import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

from mobilenets_jax import __main__
from mobilenets_jax.commands import inspect as inspect_command
from mobilenets_jax.tasks.classification import batch_title

ROOT = pathlib.Path(__file__).parents[1]


def test_command_draws_and_measures_the_digits(tmp_path):
    picture = tmp_path / 'digits.png'
    arguments = ['--config=configs/digits.py', '--config.image_size=16', '--images=10', f'--out={picture}']
    command = [sys.executable, '-m', 'mobilenets_jax', 'inspect', *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    counts, batch, seen, last = ended.stdout.splitlines()
    assert counts == 'digits: 1437 training and 360 evaluation images, 10 classes'
    assert batch.startswith('training batch: (10, 16, 16, 3) uint8 in [0, 255], mean (')
    assert seen.startswith('as the network sees it: (10, 16, 16, 3) float32 in [-1, ')
    assert last == f'picture: {picture}' and ended.returncode == 0
    with Image.open(picture) as image:
        assert image.width > 800 and len(image.convert('RGB').getcolors(2**24)) > 100


def test_wrong_values_end_in_one_line(capsys):
    assert __main__.main(['inspect', '--config=configs/digits.py', '--images=0']) == 2
    assert capsys.readouterr().err == 'error: --images=0 must be positive.\n'


def test_statistics_by_hand():
    images = np.zeros((2, 1, 2, 3), np.uint8)
    images[..., 1] = [[[10, 30]], [[10, 30]]]
    assert inspect_command.statistics('x', images) == (
        'x: (2, 1, 2, 3) uint8 in [0, 30], mean (0, 20, 0), standard deviation (0, 10, 0)'
    )


def test_titles_say_what_is_mixed_in():
    assert batch_title(('cat', 'dog'), 1, 1, 1.0) == 'dog'
    assert batch_title(('cat', 'dog'), 1, 0, 0.75) == 'dog 75%\ncat 25%'
