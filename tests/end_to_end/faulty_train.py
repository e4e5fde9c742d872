"""Runs train.py with a fault in the data of one process. No test in here.

`faulty_train.py FAULT BATCH PROCESS --flag=value ...`: PROCESS meets FAULT when it reads training batch BATCH, from 0.
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from mobilenets_jax.data import digits  # noqa: E402
from mobilenets_jax.data.memory import MemoryDataset  # noqa: E402

POISON = -1  # an epoch whose images are not numbers


def block(rows: dict) -> dict:
    time.sleep(3600)
    return rows


def raise_error(rows: dict) -> dict:
    raise OSError('img_000.jpg is truncated')


def die(rows: dict) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return rows


def poison(rows: dict) -> dict:
    return rows | {'epoch': np.full_like(rows['epoch'], POISON)}


FAULTS = {'block': block, 'raise': raise_error, 'die': die, 'poison': poison}


def break_data(fault: str, faulty_batch: int) -> None:
    """Makes all memory data sets of this process meet the fault."""
    read = MemoryDataset._train_rows
    preprocess = MemoryDataset.device_preprocess

    def rows_with_fault(self, layout, start):
        first = start // self._options.batch_size
        for number, rows in enumerate(read(self, layout, start), first):
            yield FAULTS[fault](rows) if number == faulty_batch and layout.process_index == process else rows

    def preprocess_poison(self, batch, *, train):
        images = preprocess(self, batch, train=train)
        return jnp.where((batch['epoch'] == POISON)[:, None, None, None], jnp.nan, images) if train else images

    MemoryDataset._train_rows = rows_with_fault
    if fault == 'poison':
        MemoryDataset.device_preprocess = preprocess_poison


fault, batch, process = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if fault != 'fewer_images':
    break_data(fault, batch)
elif f'--process_id={process}' in sys.argv:
    digits.TEST_EXAMPLES -= 1

sys.argv = ['train.py', *sys.argv[4:]]
runpy.run_path(str(ROOT / 'train.py'), run_name='__main__')
