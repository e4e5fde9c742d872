"""What a network would take on a device, in milliseconds: one protocol, and the models that are published.

Every model is of one device and one tool, and no two may be compared. `READERS` reads tables: those that `latency
--table` measures, and those of others in their own formats, whose files are theirs and not part of this project.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search import look_up_tables, published_latencies
from mobilenets_jax.search.measured_latency import read_measured
from mobilenets_jax.search.operations import OPERATION_NAMES
from mobilenets_jax.search.tunas_latency import read_tunas

PAPERS = 'papers_pixel1'


class LatencyModel(Protocol):
    """A model of one device.

    Attributes:
        device: what was measured, with what.
    """

    device: str

    def milliseconds(self, spec: NetworkSpec, image_size: int = 224) -> float:
        """The milliseconds for one image; raises `UserError` for a network that the model does not cover."""


class PapersPixel1:
    """The latencies that the papers print for Pixel 1, as milliseconds for each kind of multiply-add.

    Four coefficients, fitted on 25 printed latencies of 4.4 to 77 ms: 3.3 % mean error, 4.0 % for rows left out of the
    fit. The printed networks have no 7x7 kernels, and dense kxk convolutions in their stems alone, whose coefficient is
    therefore badly determined: the model refuses neither.
    """

    device = published_latencies.DEVICE

    def __init__(self):
        fitted = published_latencies.fit(published_latencies.feature_rows(), published_latencies.printed())
        self.coefficients = dict(zip(OPERATION_NAMES, fitted.tolist(), strict=True))

    def milliseconds(self, spec: NetworkSpec, image_size: int = 224) -> float:
        """See `LatencyModel`."""
        return self.milliseconds_of(published_latencies.madds_by_kind(spec, image_size))

    def milliseconds_of(self, madds: Mapping[str, int]) -> float:
        """The same for a network whose multiply-adds of each kind are known."""
        return sum(self.coefficients[kind] * count / 1e9 for kind, count in madds.items())


# Readers of tables: of those that `latency --table` makes, and of others' by the name of the search they were made for.
READERS: dict[str, Callable[[str], LatencyModel]] = {
    'measured': read_measured,
    'once_for_all': look_up_tables.read_once_for_all,
    'proxylessnas': look_up_tables.read_proxylessnas,
    'single_path_nas': look_up_tables.read_single_path_nas,
    'tf_nas': look_up_tables.read_tf_nas,
    'tunas': read_tunas,
}


def latency_model(name: str, path: str = '') -> LatencyModel:
    """The model `name`: 'papers_pixel1', which needs no file, or one of `READERS` with its file.

    Raises:
        UserError: an unknown name, or a file that cannot be read.
    """
    check_choice('search.latency', name, (PAPERS, *READERS))
    check((name == PAPERS) == (not path), 'search.latency_file', path, f'does not go with search.latency={name!r}')
    return PapersPixel1() if name == PAPERS else READERS[name](path)
