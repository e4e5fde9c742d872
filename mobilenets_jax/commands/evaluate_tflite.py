"""`evaluate_tflite`: what a TFLite file scores on the data of a config, measured as eval.py does, run by LiteRT."""

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from configs import base
from mobilenets_jax.config import ConfigView
from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.evaluation.evaluator import Evaluator
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.export.litert import LiteNetwork, read_file
from mobilenets_jax.export.lowering import OUTPUT
from mobilenets_jax.export.metadata import read_anchors, read_record
from mobilenets_jax.identity import CLASSIFICATION, check_classes
from mobilenets_jax.inference import freeze
from mobilenets_jax.tasks import get_task
from mobilenets_jax.tasks.detector import decoding
from mobilenets_jax.training.progress import finite_or_none
from mobilenets_jax.weights import files, load_pretrained
from mobilenets_jax.weights.cards import PREPROCESSING
from mobilenets_jax.weights.trained import is_folder

BACKGROUND_OUTPUTS = 1001  # of networks trained with TensorFlow on ImageNet, whose first class is none of its 1000
BASE_CONFIG = pathlib.Path(base.__file__)
RANGE = 'data.normalization'
NETWORK_SECTIONS = ('model', 'segmentation', 'detection')

Network = Callable[[np.ndarray], Any]


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('evaluate_tflite', help='measure a TFLite file on the data of a config')
    parser.add_argument('file', metavar='F.tflite', help='that `export` wrote; or a classifier of others')
    parser.add_argument(
        '--reference',
        metavar='WEIGHTS',
        help='weights or a workdir: also how often that classifier predicts the same class',
    )
    parser.add_argument('--threads', type=int, default=1, help='that LiteRT takes')
    parser.set_defaults(run=run, reads_config=True)


def run(arguments: argparse.Namespace) -> None:
    """Reads `--config` and its overrides as eval.py does, and prints one JSON object."""
    from mobilenets_jax import cli  # defines the flags
    from mobilenets_jax.config_use import check_used_in_evaluation

    check(arguments.threads > 0, '--threads', arguments.threads, 'must be positive')
    content = read_file(arguments.file)
    network = LiteNetwork(content, arguments.file, arguments.threads)
    record = read_record(content, arguments.file) or _foreign(arguments.file, network)
    own_config = cli.value_of(['', *arguments.config_flags], 'config') is not None
    config_file = [] if own_config else [f'--config={BASE_CONFIG}:{record["task"]}']
    cli.parse(['evaluate_tflite', *config_file, *arguments.config_flags])
    config = cli.config_view(_fields(record, cli.overrides(), arguments.file))
    task = config.task
    check(task == record['task'], 'task', task, f'is not that of {arguments.file}, which is {record["task"]!r}')
    experiment = Experiment(config)
    check_used_in_evaluation(config, cli.overrides())
    has_background = _check_fits(experiment, record, network, arguments.file)
    _check_decoding(experiment, record, content, network, arguments.file)
    reference = arguments.reference and _reference(arguments.reference, config, experiment, arguments.file, network)
    run_file = (lambda images: network(images)[:, 1:]) if has_background else network
    metrics = measure(experiment, run_file, reference)
    print(json.dumps({'model': record['model'], **finite_or_none(metrics), 'file': arguments.file}), flush=True)


def _foreign(path: str, network: LiteNetwork) -> dict[str, Any]:
    """The record of a file that this project did not write: the range of its input, if the file states it."""
    classes = network.shapes.get(OUTPUT, ())
    if len(network.shapes) != 1 or len(classes) != 1:
        shapes = [*network.shapes.values()]
        raise UserError(f'{path} returns {shapes} for an image: of files of others only classifiers are measured.')
    try:
        normalization = files.read(pathlib.Path(path).expanduser()).contents.normalization
    except UserError:  # the readers know networks of this project alone; LiteRT runs any
        normalization = None
    preprocessing = dataclasses.asdict(PREPROCESSING[CLASSIFICATION]['tflite'])
    config = {f'data.{name}': preprocessing[name] for name in ('crop_fraction', 'interpolation')}
    config |= {'image_size': network.image_size[0], 'data.eval_crop': preprocessing['crop'], RANGE: normalization}
    return {'task': CLASSIFICATION, 'model': path, 'class_names': (), 'config': config}


def _fields(record: Mapping[str, Any], overrides: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The fields of the config that the file decides, by dotted path.

    Args:
        record: of the file.
        overrides: what the command line sets; of the network it may set nothing else.
        path: of the file.
    """
    fields = dict(record['config'])
    if fields.get(RANGE) is None:
        fields[RANGE] = overrides.get(RANGE)
    if fields[RANGE] is None:
        known = ', '.join(NORMALIZATIONS)
        raise UserError(f'{path} does not say the range of its input: set --config.{RANGE}, one of {known}.')
    task = get_task(record['task'])
    flip = overrides.get('evaluation.flip')
    check(not flip, 'evaluation.flip', flip, 'has no effect here: a file is measured on images as they are')
    for name, value in overrides.items():
        of_network = name == RANGE or name.partition('.')[0] in NETWORK_SECTIONS
        if of_network and name not in task.reading_fields:
            check(name in fields and fields[name] == value, name, value, f'is not that of {path}: {fields.get(name)!r}')
    return {'batch_size': task.images_per_device * jax.device_count(), **fields}


def _check_fits(experiment: Experiment, record: Mapping[str, Any], network: LiteNetwork, path: str) -> bool:
    """Raises `UserError` unless the data are those of the file; whether its first class is none of theirs."""
    dataset = experiment.dataset
    size = dataset.eval_signature['image'].shape[:2]
    check(size == network.image_size, 'image_size', size, f'is not that of {path}: {network.image_size}')
    of_anchors = len(network.shapes) > 1  # whose first column is the background
    columns = network.shapes[OUTPUT][-1] - of_anchors
    has_background = columns == dataset.num_classes + 1 == BACKGROUND_OUTPUTS
    if has_background:
        print(f'{path}: 1 of its {columns} classes is left out: background', file=sys.stderr)
    classes = columns - has_background
    check(classes == dataset.num_classes, 'data', dataset.num_classes, f'classes, where {path} has {classes}')
    if record['class_names'] and not dataset.numbered_classes:
        check_classes(path, tuple(record['class_names']), dataset.class_names, dataset.name, exact=False)
    return has_background


def _check_decoding(
    experiment: Experiment, record: Mapping[str, Any], content: bytes, network: LiteNetwork, path: str
) -> None:
    """Raises `UserError` unless the config gives the anchors, the coder and the scores of the file, if it has some."""
    found = read_anchors(content, path)
    if found is None:
        return
    wanted = experiment.model.anchors(network.image_size)
    same = found.shape == wanted.shape and np.allclose(found, wanted, rtol=0, atol=1e-6)
    same = same and record['facts'] == decoding(experiment.model.head_spec)
    if not same:
        raise UserError(f'{path} has other anchors, codes or scores than config.detection gives; do not set them.')


def _reference(source: str, config: ConfigView, experiment: Experiment, path: str, network: LiteNetwork) -> Network:
    """The classifier of some weights, on the images that the file gets."""
    classifies = len(network.shapes) == 1 and len(network.shapes[OUTPUT]) == 1
    check(classifies, '--reference', source, f'is compared with classifiers, and {path} is none')
    size, normalization, classes = config.image_size, config.data.normalization, experiment.dataset.num_classes
    of_a_run = is_folder(source, f'--reference={source!r}')
    arguments = {} if of_a_run else {'normalization': normalization}
    pretrained = load_pretrained(source, image_size=size, option='--reference', **arguments)
    found = pretrained.card.preprocessing.normalization
    requirement = f'takes the range {found!r}, where the file takes {normalization!r}'
    check(found == normalization, '--reference', source, requirement)
    check(pretrained.model.num_classes == classes, '--reference', source, f'does not have {classes} classes')
    return freeze(pretrained.model, pretrained.variables)


def measure(experiment: Experiment, network: Network, reference: Network | None = None) -> dict[str, float]:
    """The metrics of the task; and 'same_as_reference', how many percent of the images have the reference's class.

    Args:
        experiment: its data are read, and its task makes results of what the network returns.
        network: normalised images, float32 [n, H, W, 3], to what a model of the task returns for them.
        reference: logits [n, classes] of the same images by another network; None: there is none.
    """
    same: list[np.ndarray] = []
    of_outputs = jax.jit(experiment.task.measure)

    def step(params: None, batch_stats: None, batch: Mapping[str, jax.Array]):
        batch = {name: np.asarray(leaf).reshape(-1, *leaf.shape[2:]) for name, leaf in batch.items()}
        images = np.asarray(experiment.dataset.device_preprocess(batch, train=False))
        real = batch['mask'] > 0
        outputs = jax.tree.map(functools.partial(_with_padding, real), network(images[real]))
        if reference is not None:
            expected = np.asarray(reference(images))  # of all, so that it is compiled for one shape
            same.append((expected.argmax(axis=1) == outputs.argmax(axis=1))[real])
        sums, rows = of_outputs(outputs, batch)
        rows = {**rows, 'index': batch['index'], 'mask': batch['mask']}
        return jax.device_put((sums, {name: np.asarray(leaf)[None] for name, leaf in rows.items()}))

    dataset = experiment.dataset
    evaluate = Evaluator(
        step,
        functools.partial(dataset.eval_batches, experiment.layout, with_index=True),
        dataset.num_eval,
        functools.partial(experiment.definition.to_metrics, dataset),
    )
    metrics = evaluate(None, None).metrics
    agrees = {} if reference is None else {'same_as_reference': 100 * float(np.mean(np.concatenate(same)))}
    return {**metrics, **agrees}


def _with_padding(real: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of the real examples of a batch, and zeros for its padding, float32 [n, ...]."""
    padded = np.zeros((len(real), *rows.shape[1:]), rows.dtype)
    padded[real] = rows
    return padded
