"""`evaluate_tflite`: what a TFLite file scores on the data of a config, read as eval.py reads them, run by LiteRT."""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mobilenets_jax.config import ConfigView
from mobilenets_jax.data import Dataset, Layout
from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.export.litert import LiteNetwork, read_file
from mobilenets_jax.export.metadata import read_record
from mobilenets_jax.identity import CLASSIFICATION, check_classes
from mobilenets_jax.image_size import height_and_width
from mobilenets_jax.inference import freeze
from mobilenets_jax.training.classification import label_rank
from mobilenets_jax.weights import files, load_pretrained
from mobilenets_jax.weights.cards import PREPROCESSING
from mobilenets_jax.weights.trained import is_folder

BATCH_SIZE = 64  # images that are read at once; LiteRT runs them one by one
BACKGROUND_OUTPUTS = 1001  # of networks trained with TensorFlow on ImageNet, whose first class is none of its 1000
BASE_CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'base.py'

Classify = Callable[[np.ndarray], np.ndarray | jax.Array]


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('evaluate_tflite', help='measure a TFLite file on the data of a config')
    parser.add_argument('file', metavar='F.tflite', help='a classifier, float or with quantized input and output')
    parser.add_argument(
        '--reference', metavar='WEIGHTS', help='weights or a workdir: also how often the network itself says the same'
    )
    parser.add_argument('--threads', type=int, default=1, help='that LiteRT takes')
    parser.set_defaults(run=run, reads_config=True)


def run(arguments: argparse.Namespace) -> None:
    """Reads `--config` and its overrides as eval.py does, and prints one JSON object."""
    from mobilenets_jax import cli  # defines the flags
    from mobilenets_jax.config_use import check_used_in_evaluation
    from mobilenets_jax.experiment import dataset_of

    check(arguments.threads > 0, '--threads', arguments.threads, 'must be positive')
    content = read_file(arguments.file)
    network = LiteNetwork(content, arguments.file, arguments.threads)
    record = read_record(content, arguments.file) or _foreign(arguments.file, network)
    own_config = cli.value_of(['', *arguments.config_flags], 'config') is not None
    config_file = [] if own_config else [f'--config={BASE_CONFIG}:{CLASSIFICATION}']
    cli.parse(['evaluate_tflite', *config_file, *arguments.config_flags])
    config = cli.config_view({'batch_size': BATCH_SIZE, **_fields(record, cli.overrides(), arguments.file)})
    check(config.task == CLASSIFICATION, 'task', config.task, f'is not that of {arguments.file}, a classifier')
    fits = height_and_width(config.image_size) == network.image_size
    check(fits, 'image_size', config.image_size, f'is not that of {arguments.file}: {network.image_size[0]}')
    dataset = dataset_of(config, batch_size=config.batch_size)
    check_used_in_evaluation(config, cli.overrides())
    has_background = network.num_outputs == dataset.num_classes + 1 == BACKGROUND_OUTPUTS
    classes = network.num_outputs - has_background
    if has_background:
        print(f'{arguments.file}: 1 of its {network.num_outputs} classes is left out: background', file=sys.stderr)
    check(classes == dataset.num_classes, 'data', dataset.num_classes, f'classes, where {arguments.file} has {classes}')
    if record['class_names']:
        check_classes(arguments.file, record['class_names'], dataset.class_names, dataset.name, exact=False)
    reference = arguments.reference and _reference(arguments.reference, config, classes)

    def logits_of(images: np.ndarray) -> np.ndarray:
        return network(images)[:, int(has_background) :]

    metrics = measure(dataset, logits_of, reference)
    print(json.dumps({'model': record['model'], **metrics, 'file': arguments.file}), flush=True)


def _foreign(path: str, network: LiteNetwork) -> dict[str, Any]:
    """What is known of a file that this project did not write: the range of its input, where the file tells it."""
    try:
        value_range = files.read(pathlib.Path(path).expanduser()).contents.value_range
    except UserError:  # the readers know classifiers alone; LiteRT runs any network
        value_range = None
    preprocessing = {**dataclasses.asdict(PREPROCESSING['tflite']), 'image_size': network.image_size[0]}
    return {'model': path, 'class_names': (), 'preprocessing': {**preprocessing, 'value_range': value_range}}


def _fields(record: dict[str, Any], given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The fields of the config that the file decides, by dotted path."""
    preprocessing = record['preprocessing']
    value_range = given.get('data.normalization', preprocessing['value_range'])
    if value_range is None:
        known = ', '.join(NORMALIZATIONS)
        raise UserError(f'{path} does not say the range of its input: set --config.data.normalization, one of {known}.')
    stated = preprocessing['value_range']
    check(stated in (None, value_range), 'data.normalization', value_range, f'is not that of {path}: {stated}')
    return {
        'image_size': preprocessing['image_size'],
        'data.eval_crop': preprocessing['crop'],
        'data.crop_fraction': preprocessing['crop_fraction'],
        'data.interpolation': preprocessing['interpolation'],
        'data.normalization': value_range,
    }


def _reference(source: str, config: ConfigView, classes: int) -> Classify:
    """The network of some weights, on the images that the file gets."""
    size, value_range = config.image_size, config.data.normalization
    of_a_run = is_folder(source, f'--reference={source!r}')
    told = {} if of_a_run else {'value_range': value_range}
    pretrained = load_pretrained(source, image_size=size, option='--reference', **told)
    found = pretrained.card.preprocessing.value_range
    check(
        found == value_range, '--reference', source, f'takes the range {found!r}, where the file takes {value_range!r}'
    )
    check(pretrained.model.num_classes == classes, '--reference', source, f'does not have {classes} classes')
    return freeze(pretrained.model, pretrained.variables)


def measure(dataset: Dataset, logits_of: Classify, reference: Classify | None) -> dict[str, float]:
    """Top-1 and top-5, and how often the reference's likeliest class is the file's, in percent; 'count' of the images.

    Args:
        dataset: whose evaluation split is read.
        logits_of: normalised images, float32 [n, H, W, 3], to logits [n, classes]; classes of equal logits stand in
            the order of their index, as in eval.py.
        reference: the same of another network; None: there is none.
    """
    alone = Layout(process_index=0, process_count=1, local_device_count=1)
    ranks, same = [], []
    for batch in dataset.eval_batches(alone):
        batch = {name: values[0] for name, values in batch.items()}
        real = batch['mask'] > 0
        images = np.asarray(dataset.device_preprocess(batch, train=False))
        logits = logits_of(images[real])
        ranks.append(np.asarray(label_rank(logits, batch['label'][real])))
        if reference is not None:
            expected = np.asarray(reference(images))[real]  # of all, so that it is compiled for one shape
            same.append(expected.argmax(axis=1) == logits.argmax(axis=1))
    rank = np.concatenate(ranks)
    metrics = {f'top{k}': 100 * float(np.mean(rank < k)) for k in (1, 5)}
    agrees = {} if reference is None else {'same_as_reference': 100 * float(np.mean(np.concatenate(same)))}
    return {**metrics, **agrees, 'count': len(rank)}
