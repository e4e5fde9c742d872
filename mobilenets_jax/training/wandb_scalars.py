"""A run's metrics on Weights & Biases, beside `metrics.jsonl`, which has them all.

A run that goes on, after a kill too, goes on in the same run there: `WORKDIR/wandb.json` keeps its id. Steps behind the
last checkpoint are done again after a kill, and written again; so metrics are drawn over their own 'step', and not over
the count of calls, which only grows.
"""

import contextlib
import sys
import uuid
from collections.abc import Mapping
from typing import Any

from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.config import read_json, write_json
from mobilenets_jax.errors import UserError, needed, one_line

RECORD = 'wandb.json'


def run_id(workdir: epath.Path, project: str) -> str:
    """The id of the run of a workdir in a project; made and kept when it is asked for the first time."""
    path = workdir / RECORD
    with contextlib.suppress(FileNotFoundError, UserError):  # a damaged file only costs the connection
        found = read_json(path)
        if isinstance(found, Mapping) and found.get('project') == project and isinstance(found.get('id'), str):
            return found['id']
    made = uuid.uuid4().hex[:12]
    write_json(path, {'project': project, 'id': made})
    return made


class WandbScalars:
    """Writes metrics to Weights & Biases.

    Args:
        workdir: of the run; where it is local, wandb keeps its own files in it.
        project: that the run belongs to.
        config: of the run, nested.

    Raises:
        UserError: wandb is not installed, or cannot begin, such as without an account.
    """

    def __init__(self, workdir: epath.Path, project: str, config: Mapping[str, Any]):
        wandb = needed('wandb')
        folder = {} if is_bucket(workdir) else {'dir': str(workdir)}
        name = workdir.name or None
        try:
            self._run = wandb.init(
                project=project, id=run_id(workdir, project), resume='allow', name=name, config=dict(config), **folder
            )
            self._run.define_metric('step')
            self._run.define_metric('*', step_metric='step')
        except Exception as error:  # wandb and its network client raise many types
            cause = one_line(error)
            raise UserError(f'log.wandb_project={project!r} cannot be written to: {cause:.300}') from error

    def add(self, kind: str, step: int, metrics: Mapping[str, float | None]) -> None:
        """Adds the metrics of a row of `metrics.jsonl`; those without a value are left out."""
        values = {f'{kind}/{name}': value for name, value in metrics.items() if value is not None}
        self._never_ending_the_run(lambda: self._run.log({**values, 'step': step}))

    def close(self) -> None:
        """Waits until all is written."""
        self._never_ending_the_run(lambda: self._run.finish())

    def _never_ending_the_run(self, call) -> None:
        if self._run is None:
            return
        try:
            call()
        except Exception as error:
            self._run = None
            cause = one_line(error)
            line = f'nothing more goes to Weights & Biases ({cause}); metrics.jsonl has all metrics'
            print(line, file=sys.stderr, flush=True)
