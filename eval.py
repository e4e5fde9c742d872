"""Evaluates a checkpoint: `python eval.py --workdir=W [--step=N|best] [--params=ema|raw] [--config.key=value ...]`."""

import sys

from mobilenets_jax.commands import evaluate

if __name__ == '__main__':
    evaluate.run(sys.argv)
