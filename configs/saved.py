"""The config that a run saved: `--config=configs/saved.py:WORKDIR/config.json`, which eval.py uses for `--workdir`.

Only JSON is read; no code beside a checkpoint is ever run.
"""

import json

from etils import epath

from configs import base
from mobilenets_jax.errors import UserError


def get_config(path: str):
    """The fields of `base` with the values of the JSON file at `path`."""
    try:
        saved = json.loads(epath.Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f'workdir: there is no {path}, which every run writes when it starts.') from None
    config = base.get_config()
    config.update(saved)
    return config
