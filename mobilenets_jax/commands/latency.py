"""`latency`: milliseconds for one image, measured here with LiteRT, and those of the papers' phone for comparison."""

import argparse
import dataclasses
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mobilenets_jax import machine
from mobilenets_jax.commands import latency_table
from mobilenets_jax.errors import UserError, check, needed
from mobilenets_jax.export.file_madds import file_madds
from mobilenets_jax.export.litert import read_file
from mobilenets_jax.export.timing import WARM_UP, TimedNetwork, measure
from mobilenets_jax.export.untrained import untrained_file
from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.latency import PapersPixel1
from mobilenets_jax.search.published_latencies import DEVICE, ROWS, SOURCE, feature_rows, fit_errors, left_out, printed
from mobilenets_jax.tables import aligned

IMAGE_SIZE = 224  # pixels, unless it is given
LEAST_RANKED = 5  # networks with a published latency; for fewer a rank correlation means little
HEADER = ('network', 'size', 'MB', 'delegates', 'minimum', 'median', '90 %', 'predicted', 'published')
FIT_HEADER = ('network', 'width', 'size', 'published', 'fitted', 'error', 'left out', 'error')


class Network(NamedTuple):
    """A network to be measured.

    Attributes:
        label: as the user wrote it.
        content: of its TFLite file.
        timed: the same, ready to run.
        published: milliseconds that are printed for a Pixel 1; None where there are none.
    """

    label: str
    content: bytes
    timed: TimedNetwork
    published: float | None


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        'latency', help="measure networks by LiteRT on this machine, beside the papers' phone"
    )
    parser.add_argument(
        'networks',
        nargs='*',
        metavar='NAME[:WIDTH]|F.tflite',
        help='a registered network, e.g. mobilenet_v2:0.35, which gets random weights; or a file',
    )
    parser.add_argument('--threads', type=int, default=1, help='that LiteRT takes')
    parser.add_argument('--int8', action='store_true', help='the networks that are named in 8 bit, not in float')
    parser.add_argument(
        '--image_size', type=int, help=f'pixels, of the networks that are named; {IMAGE_SIZE} by default'
    )
    parser.add_argument('--runs', type=int, default=50, help='that are timed, of each network')
    parser.add_argument(
        '--fit', action='store_true', help='repeat the fit to the published latencies of a Pixel 1, and list the errors'
    )
    latency_table.add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Makes a table, prints the fit, or measures and prints a line for each network."""
    if latency_table.asked(arguments):
        latency_table.run(arguments)
        return
    if arguments.fit:
        alone = not (arguments.networks or arguments.int8 or arguments.image_size)
        check(alone, '--fit', True, 'measures nothing, and takes neither networks nor their options')
        print(fit_text())
        return
    _check(arguments)
    needed('ai_edge_litert.interpreter')
    networks = _networks(arguments)
    load = os.getloadavg()[0]
    milliseconds = measure([network.timed for network in networks], arguments.runs)
    rows = [_cells(*row) for row in zip(networks, milliseconds, _predictions(networks), strict=True)]
    print('\n'.join([*aligned([HEADER, *rows], text_columns=(0,)), '', *_about(arguments, load)]))
    print(_order(networks, milliseconds.min(axis=1)))


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.networks:
        raise UserError('latency needs networks: NAME, NAME:WIDTH or F.tflite, or --fit.')
    for option in ('threads', 'runs', 'image_size'):
        value = getattr(arguments, option)
        check(value is None or value > 0, f'--{option}', value, 'must be positive')
    if all(_is_file(network) for network in arguments.networks):
        for option in ('int8', 'image_size'):
            value = getattr(arguments, option)
            check(not value, f'--{option}', value, 'has no effect on files, which are measured as they are')


def _is_file(network: str) -> bool:
    return network.endswith('.tflite')


def _networks(arguments: argparse.Namespace) -> list[Network]:
    """All that are asked for, each once; what the user can mistake is found before anything is converted."""
    asked = list(dict.fromkeys(arguments.networks))
    size = arguments.image_size or IMAGE_SIZE
    models = {network: _model(network) for network in asked if not _is_file(network)}
    found = {}
    for network in filter(_is_file, asked):
        content = read_file(network)
        found[network] = Network(network, content, TimedNetwork(content, network, arguments.threads), None)
    for network, model in models.items():
        content = untrained_file(model, size, arguments.int8)
        published = None if arguments.int8 else published_latency(model.spec, size)
        found[network] = Network(network, content, TimedNetwork(content, network, arguments.threads), published)
    return [found[network] for network in asked]


def _model(network: str) -> ImageClassifier:
    """The network of 'NAME' or 'NAME:WIDTH'."""
    name, width_multiplier = latency_table.name_and_width(network)
    return create_model(name, width_multiplier=width_multiplier)


def published_latency(spec: NetworkSpec, image_size: int) -> float | None:
    """Milliseconds that are printed for a Pixel 1; None where there are none for this network at this size."""

    def computed(spec: NetworkSpec) -> NetworkSpec:
        return dataclasses.replace(spec, convention=None)

    for row in ROWS:
        if row.image_size == image_size and computed(get_spec(row.name, **row.fields)) == computed(spec):
            return row.milliseconds
    return None


def _predictions(networks: Sequence[Network]) -> list[float | None]:
    """The prediction for each network; None, with a line on it, for a network with operations that the fit lacks."""
    model, predictions, without = PapersPixel1(), [], []
    for network in networks:
        counted = file_madds(network.content)
        predictions.append(None if counted.unknown else model.milliseconds_of(counted.by_kind))
        if counted.unknown:
            without.append(f'{network.label} ({", ".join(counted.unknown)})')
    if without:
        print(
            f'no latency of a Pixel 1 is predicted for {len(without)} of {len(networks)}, which have what the fitted '
            f'networks have not: {", ".join(without)}',
            file=sys.stderr,
        )
    return predictions


def _cells(network: Network, milliseconds: np.ndarray, predicted: float | None) -> list[str]:
    height, width = network.timed.image_size
    measured = (milliseconds.min(), np.median(milliseconds), np.percentile(milliseconds, 90))
    return [
        *(network.label, str(height) if height == width else f'{height}x{width}'),
        *(f'{len(network.content) / 1e6:.2f}', str(network.timed.delegates)),
        *(f'{value:.2f}' for value in measured),
        *('-' if value is None else f'{value:.1f}' for value in (predicted, network.published)),
    ]


def _about(arguments: argparse.Namespace, load: float) -> list[str]:
    """Where the figures of each column come from."""
    errors = fit_errors(feature_rows(), printed())
    litert = importlib.metadata.version('ai-edge-litert')
    return [
        f'minimum, median, 90 %: ms, measured here by LiteRT {litert} on {machine.processor_name()}; '
        f'--threads={arguments.threads}, {arguments.runs} runs of each, taking turns, after {WARM_UP} to warm up, '
        f'load before them {load:.1f} on {os.cpu_count()} cores',
        'delegates: parts of the graph that XNNPACK runs; 1 is the whole graph',
        f'predicted: ms of a {DEVICE}, by a fit of {len(ROWS)} published ones: '
        f'mean error {errors.mean:.1f} %, {errors.mean_left_out:.1f} % for a network left out of the fit',
        f'published: ms of a {DEVICE}; {SOURCE}',
    ]


def _order(networks: Sequence[Network], minima: np.ndarray) -> str:
    """The rank correlation of the networks' latencies with the published ones."""
    published = [network.published for network in networks]
    known = [index for index, value in enumerate(published) if value is not None]
    if len(known) < LEAST_RANKED:
        return (
            f'rank correlation: of {LEAST_RANKED} networks that have a published latency or more; here are {len(known)}'
        )
    from scipy.stats import spearmanr  # a large import that no other command needs

    correlation = spearmanr(minima[known], [published[index] for index in known]).statistic
    return f'rank correlation (Spearman) of minimum and published: {correlation:.3f} of {len(known)} networks'


def fit_text() -> str:
    """The published rows with their fitted values, the coefficients of the fit and its errors."""
    model, features = PapersPixel1(), feature_rows()
    others = left_out(features, printed())
    lines = []
    for row, without in zip(ROWS, others, strict=True):
        fitted = model.milliseconds(get_spec(row.name, **row.fields), row.image_size)
        lines.append(
            [row.name, f'{row.fields.get("width_multiplier", 1.0):g}', str(row.image_size), f'{row.milliseconds:g}']
        )
        for value in (fitted, without):
            lines[-1] += [f'{value:.1f}', f'{100 * (value / row.milliseconds - 1):+.1f} %']
    errors = fit_errors(features, printed())
    coefficients = ', '.join(f'{kind} {value:.1f}' for kind, value in model.coefficients.items())
    return '\n'.join(
        [
            *aligned([FIT_HEADER, *lines], text_columns=(0,)),
            '',
            f'published: ms of a {DEVICE}; {SOURCE}',
            f'fitted: ms for a billion multiply-adds: {coefficients}',
            f'mean error {errors.mean:.1f} %, largest {errors.largest:.1f} %; '
            f'of a network left out of the fit {errors.mean_left_out:.1f} %, largest {errors.largest_left_out:.1f} %',
        ]
    )
