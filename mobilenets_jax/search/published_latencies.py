"""Latencies that papers print, and a model of latency fitted to them.

All were measured on one big core of a Pixel 1 with TensorFlow Lite, in float, one image at a time.

Source: 1905.02244v5 Tables 3 and 9; tensorflow/models research/slim/nets/mobilenet/README.md@0ba83cf (minimalistic).
    Older versions of the paper print other, larger numbers (MobileNetV2: 78 for 64 ms): one source, one tool.
"""

from typing import Any, NamedTuple

import numpy as np

from mobilenets_jax.models import get_spec
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.operations import OPERATION_NAMES, operations

DEVICE = 'Pixel 1, one big core, TensorFlow Lite float'
SOURCE = '1905.02244v5 Tables 3 and 9, slim mobilenet/README.md@0ba83cf'


class Measured(NamedTuple):
    """A printed latency.

    Attributes:
        milliseconds: of one image.
        name: of the network.
        image_size: in pixels.
        fields: of `models.get_spec`.
    """

    milliseconds: float
    name: str
    image_size: int = 224
    fields: dict[str, Any] = {}


def _widths(name: str, latencies: dict[float, float]) -> list[Measured]:
    """Table 9 keeps the last layer at every width."""
    return [
        Measured(latency, name, fields={'width_multiplier': width, 'last_channels': 'kept'})
        for width, latency in latencies.items()
    ]


def _sizes(name: str, latencies: dict[int, float]) -> list[Measured]:
    return [Measured(latency, name, image_size) for image_size, latency in latencies.items()]


ROWS = (
    *_widths('mobilenet_v3_large', {1.25: 77.0, 1.0: 51.2, 0.75: 39.8, 0.5: 21.7, 0.35: 15.1}),
    *_sizes('mobilenet_v3_large', {256: 65.6, 192: 38.0, 160: 27.8, 128: 17.8, 96: 12.5}),
    *_widths('mobilenet_v3_small', {1.25: 23.6, 1.0: 15.8, 0.75: 12.8, 0.5: 7.7, 0.35: 5.7}),
    *_sizes('mobilenet_v3_small', {256: 20.0, 160: 8.6, 128: 5.8, 96: 4.4}),
    Measured(64.0, 'mobilenet_v2'),
    Measured(16.6, 'mobilenet_v2', fields={'width_multiplier': 0.35}),
    Measured(71.0, 'mnasnet_a1'),
    Measured(20.3, 'mnasnet_small'),
    Measured(44.1, 'mobilenet_v3_large_minimalistic'),
    Measured(12.2, 'mobilenet_v3_small_minimalistic'),
)


class FitErrors(NamedTuple):
    """How far a fit is from the printed latencies, in percent of them.

    Attributes:
        mean: of all rows.
        largest: of all rows.
        mean_left_out: the same of the fits that leave out the row which they then predict.
        largest_left_out: of these.
    """

    mean: float
    largest: float
    mean_left_out: float
    largest_left_out: float


def madds_by_kind(spec: NetworkSpec, image_size: int) -> dict[str, int]:
    """Multiply-adds of one image, of each of `operations.OPERATION_NAMES`."""
    madds = dict.fromkeys(OPERATION_NAMES, 0)
    for operation in operations(spec, image_size):
        madds[operation.kind] += operation.madds
    return madds


def feature_rows() -> np.ndarray:
    """Billions of multiply-adds of each kind of all `ROWS`, float [rows, 4]."""
    counts = (madds_by_kind(get_spec(row.name, **row.fields), row.image_size) for row in ROWS)
    return np.array([[madds[kind] / 1e9 for kind in OPERATION_NAMES] for madds in counts])


def printed() -> np.ndarray:
    """The milliseconds of all `ROWS`, float [rows]."""
    return np.array([row.milliseconds for row in ROWS])


def fit(rows: np.ndarray, milliseconds: np.ndarray) -> np.ndarray:
    """Milliseconds for a billion multiply-adds of each kind: no coefficient negative, least squares of relative errors.

    Args:
        rows: features, float [rows, 4].
        milliseconds: printed, float [rows].

    Returns:
        float [4], in the order of `operations.OPERATION_NAMES`.
    """
    from scipy.optimize import nnls  # a large import that commands which fit nothing are spared

    return nnls(rows / milliseconds[:, None], np.ones(len(rows)))[0]


def left_out(rows: np.ndarray, milliseconds: np.ndarray) -> np.ndarray:
    """What the fit of all other rows says of each row, float [rows]; arguments as of `fit`."""
    kept = [np.arange(len(rows)) != number for number in range(len(rows))]
    return np.array([row @ fit(rows[keep], milliseconds[keep]) for row, keep in zip(rows, kept, strict=True)])


def fit_errors(rows: np.ndarray, milliseconds: np.ndarray) -> FitErrors:
    """The errors of the fit of these rows; arguments as of `fit`."""
    predictions = (rows @ fit(rows, milliseconds), left_out(rows, milliseconds))
    fitted, others = (100 * np.abs(predicted / milliseconds - 1) for predicted in predictions)
    return FitErrors(*(float(value) for errors in (fitted, others) for value in (errors.mean(), errors.max())))
