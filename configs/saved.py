"""The config saved by a run: `--config=configs/saved.py:WORKDIR/config.json` trains another run like it.

Only JSON is read; no code is run from a workdir.
"""

import sys
from collections.abc import Mapping

from configs import base
from mobilenets_jax.config import read_json
from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import CLASSIFICATION, task_of
from mobilenets_jax.saved_config import describe_unknown, with_saved


def get_config(path: str):
    """The fields of `base` with the values of the JSON file at `path`."""
    try:
        saved = read_json(path)
    except FileNotFoundError:
        raise UserError(f'--config: there is no {path}; every run writes its config.json when it starts.') from None
    task = task_of(saved) if isinstance(saved, Mapping) else CLASSIFICATION
    config, unknown = with_saved(base.get_config(task), saved, path)
    if unknown:
        print(describe_unknown(unknown, path), file=sys.stderr)
    return config
