"""`average`: the mean of several checkpoints as a workdir of its own."""

import argparse

from etils import epath

from mobilenets_jax.errors import check
from mobilenets_jax.weights.averaging import average, find_sources
from mobilenets_jax.weights.trained import PARAMS


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('average', help='write the mean of several checkpoints as a workdir of its own')
    parser.add_argument(
        'checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help='a workdir; or several workdirs or folders of steps, each of which gives one checkpoint',
    )
    parser.add_argument('--out', required=True, metavar='FOLDER', help='the new workdir; local, or gs://')
    few = parser.add_mutually_exclusive_group()
    few.add_argument('--last', type=int, metavar='N', help='the newest N of the workdir, not all that it holds')
    few.add_argument('--best', type=int, metavar='N', help='the N of the workdir with the best metric')
    parser.add_argument(
        '--params', choices=PARAMS, default='ema', help='averaged parameters, where there are any, or raw'
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Averages, and says what was averaged and how to measure the result."""
    out = epath.Path(arguments.out).expanduser()
    check(not out.is_file(), '--out', arguments.out, 'is a file')
    sources = find_sources(arguments.checkpoints, arguments.last, arguments.best)
    restored = average(sources, out, arguments.params)
    steps = ', '.join(str(found.step) for found in restored)
    print(f'mean of {len(restored)} checkpoints, steps {steps}: {out}')
    print(f'python -m mobilenets_jax eval --workdir={arguments.out}')
