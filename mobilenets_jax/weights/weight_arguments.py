"""The options of a command that name weights (a file, the name of a card, or a run), and how they are read."""

import argparse

from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.errors import check
from mobilenets_jax.identity import CLASSIFICATION
from mobilenets_jax.weights.pretrained import Pretrained, load_pretrained
from mobilenets_jax.weights.trained import PARAMS, Trained, parse_step, read_trained


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --weights and --workdir, one of which is required, and the options for them."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--weights', help='a file, or a name that `weights` lists')
    source.add_argument('--workdir', help='of a run; or its folder of checkpoints, or of one step; local or gs://')
    parser.add_argument('--step', metavar='N', help="of the run, or 'best'; the newest intact one by default")
    parser.add_argument('--params', choices=PARAMS, help='averaged parameters where there are any, or raw ones')
    parser.add_argument('--normalization', choices=NORMALIZATIONS, help="the input's range, where no file states it")
    parser.add_argument('--image_size', type=int, help="the input's height and width, in the place of the file's")
    parser.add_argument('--convention', help="whose padding and constants: 'tf' for timm's ports of TensorFlow")


def load_weights(arguments: argparse.Namespace, task: str = CLASSIFICATION) -> Pretrained:
    """The network that the options name; raises `UserError` as `load_pretrained` does."""
    return load_pretrained(
        arguments.weights if arguments.workdir is None else arguments.workdir,
        convention=arguments.convention,
        image_size=arguments.image_size,
        normalization=arguments.normalization,
        step=parse_step(arguments.step),
        params=arguments.params,
        task=task,
    )


def read_run(arguments: argparse.Namespace) -> Trained:
    """The checkpoint of --workdir, with its config.

    Raises:
        UserError: as `read_trained` does; or an option sets a property that the run has itself.
    """
    for option in ('convention', 'normalization'):
        value = getattr(arguments, option)
        check(value is None, f'--{option}', value, 'has no effect with --workdir: a run has its own')
    label = f'weights={arguments.workdir!r}'
    return read_trained(arguments.workdir, label, step=parse_step(arguments.step), params=arguments.params or 'ema')
