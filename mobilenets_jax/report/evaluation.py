"""The measurement of a checkpoint or of weights, and the folder that its report goes to."""

import os
from collections.abc import Mapping
from typing import Any

from etils import epath

from mobilenets_jax.errors import UserError
from mobilenets_jax.hosts import broadcast_from_primary
from mobilenets_jax.training import parallel

PyTree = Any


def prepare_folder(folder: str) -> None:
    """Makes the folder of a report, before anything is computed; `UserError` where it cannot be written to."""
    path = epath.Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f'.writable.{os.getpid()}'
        probe.write_text('')
        probe.unlink()
    except OSError as error:
        raise UserError(f'--report={folder!r} cannot be written: {error.strerror or error}.') from error


def measure(experiment: Any, variables: tuple[PyTree, PyTree], folder: str | None) -> Mapping[str, float]:
    """Metrics of parameters and statistics on the evaluation set of an `Experiment`.

    Args:
        experiment: has the evaluation set, and measures.
        variables: parameters and statistics, NumPy arrays.
        folder: where the report goes, which the primary process writes; None: none is asked for.

    Raises:
        UserError: the report cannot be written.
    """
    evaluation = experiment.evaluator()(*parallel.replicate(variables))
    if folder is not None:
        broadcast_from_primary(lambda: experiment.write_report(folder, evaluation))
    return evaluation.metrics
