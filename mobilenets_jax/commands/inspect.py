"""`inspect`: what a run of a config would see, as a picture of an augmented batch and as numbers."""

import argparse
import math
from collections.abc import Sequence

import numpy as np

from mobilenets_jax.errors import UserError, check

COLUMNS = 8
PANEL_INCHES = 1.7


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('inspect', help="draw and measure an augmented batch of a config's data")
    parser.add_argument('--images', type=int, default=32, help='how many of them')
    parser.add_argument('--epoch', type=int, default=0, help='the epoch to show')
    parser.add_argument('--out', metavar='PNG', default='inspect.png', help='where the picture goes')
    parser.set_defaults(run=run, reads_config=True)


def run(arguments: argparse.Namespace) -> None:
    """Reads `--config` and its overrides as train.py does."""
    from mobilenets_jax import cli  # defines the flags
    from mobilenets_jax.data import Layout
    from mobilenets_jax.experiment import dataset_of
    from mobilenets_jax.tasks import get_task

    check(arguments.images > 0, '--images', arguments.images, 'must be positive')
    check(arguments.epoch >= 0, '--epoch', arguments.epoch, 'must not be negative')
    cli.parse(['inspect', *arguments.config_flags])
    config = cli.config_view()
    dataset = dataset_of(config, batch_size=arguments.images)
    print(
        f'{dataset.name}: {dataset.num_train} training and {dataset.num_eval} evaluation images, '
        f'{dataset.num_classes} classes'
    )
    alone = Layout(process_index=0, process_count=1, local_device_count=1)
    train = dataset.num_train > 0
    start = -(-arguments.epoch * dataset.num_train // arguments.images) * arguments.images
    batches = dataset.train_batches(alone, start=start) if train else dataset.eval_batches(alone, with_index=True)
    batch = {name: value[0] for name, value in next(batches).items()}
    view = get_task(config.task).view_batch(config, dataset, batch, train=train)
    print(statistics(f'{"training" if train else "evaluation"} batch', batch['image']))
    print(statistics('as the network sees it', view.images))
    for line in view.lines:
        print(line)
    draw(view.images if view.pictures is None else view.pictures, view.titles, arguments.out)
    print(f'picture: {arguments.out}')


def statistics(name: str, images: np.ndarray) -> str:
    """A line about images [n, H, W, 3]."""
    values = images.astype(np.float64)
    channels = [', '.join(f'{x:.3g}' for x in f(values, axis=(0, 1, 2))) for f in (np.mean, np.std)]
    return (
        f'{name}: {images.shape} {images.dtype} in [{values.min():.4g}, {values.max():.4g}], '
        f'mean ({channels[0]}), standard deviation ({channels[1]})'
    )


def draw(images: np.ndarray, titles: Sequence[str], path: str) -> None:
    """Draws images [n, H, W, 3] of any range under their titles; `UserError` where the file cannot be written."""
    from matplotlib.figure import Figure

    low, high = images.min(), images.max()
    rows = math.ceil(len(images) / COLUMNS)
    figure = Figure(figsize=(COLUMNS * PANEL_INCHES, rows * (PANEL_INCHES + 0.35)), layout='constrained')
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel in panels:
        panel.axis('off')
    for panel, image, text in zip(panels, images, titles, strict=False):
        panel.imshow((image - low) / max(high - low, 1e-6), interpolation='nearest')
        panel.set_title(text, fontsize='x-small')
    try:
        figure.savefig(path, dpi=100)
    except (OSError, ValueError) as error:
        raise UserError(f'--out={path!r} cannot be written: {error}.') from error
