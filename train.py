"""Trains a network: `python train.py --config=configs/digits.py --workdir=W [--config.key=value ...]`."""

import sys

from mobilenets_jax.commands import train

if __name__ == '__main__':
    train.run(sys.argv)
