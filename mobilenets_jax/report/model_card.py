"""The model card of a finished run, WORKDIR/README.md: what was trained, how, on what, and what it measured.

The name is that of Hugging Face, whose page of a model begins with this file. It is written anew each time that the run
comes to its end, and says nothing of the machine's folders but what the config has. A README.md of somebody else is
left as it is.
"""

import importlib.metadata
import pathlib
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from etils import epath

from mobilenets_jax import machine
from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.config import ConfigView, write_text
from mobilenets_jax.data import Dataset
from mobilenets_jax.errors import UserError
from mobilenets_jax.hosts import code_version
from mobilenets_jax.image_size import height_and_width
from mobilenets_jax.report.counts import count_module
from mobilenets_jax.report.run import never_ending_the_run
from mobilenets_jax.tables import markdown
from mobilenets_jax.training.task import Measures

NAME = 'README.md'
MARK = '<!-- Written by mobilenets_jax at the end of the run, and anew at each further end. -->'
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
LISTED_CLASSES = 20
VALUE_LENGTH = 120  # characters of a value of the config, such as a whole table of a network


def write_model_card(
    workdir: epath.Path,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    model: nn.Module,
    dataset: Dataset,
    measures: Measures,
) -> None:
    """Writes the card; it never ends a run: what goes wrong is a line on standard error.

    Args:
        workdir: of the run.
        summary: as in its `summary.json`.
        config: of the run, nested.
        defaults: what its fields are where nothing sets them, nested.
        model: its network.
        dataset: its data.
        measures: how its metrics are called and written.
    """

    def write() -> None:
        path = workdir / NAME
        if path.exists() and MARK not in path.read_text():
            raise UserError('there is one that this project has not written')
        sections = (
            _front_matter(summary),
            f'# {summary["model"]}',
            _curves(workdir),
            _section('Results', _results(workdir, summary, measures)),
            _section('Network', _network(summary, config, model)),
            _section('Data', _data(config, dataset)),
            _section('Config', _config(workdir, config, defaults)),
            _section('Made with', _made_with(summary)),
        )
        write_text(path, '\n\n'.join(filter(None, sections)) + '\n')

    never_ending_the_run(NAME, write)


def commit() -> str:
    """The commit of the checkout that this package is part of, e.g. '1a2b3c4, with changes'; '' where it is in none."""
    folder = pathlib.Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        ended = subprocess.run(['git', '-C', str(folder), *arguments], capture_output=True, text=True, timeout=30)
        return ended.stdout.strip() if ended.returncode == 0 else ''

    try:
        if not git('ls-files', '__init__.py'):  # a repository around an installed package is another project's
            return ''
        changes = ', with changes' if git('status', '--porcelain', '--untracked-files=no') else ''
        return git('rev-parse', '--short=12', 'HEAD') + changes
    except (OSError, subprocess.SubprocessError):
        return ''


def _front_matter(summary: Mapping[str, Any]) -> str:
    """What Hugging Face reads of a card."""
    return f'---\nlibrary_name: mobilenets_jax\ntags:\n- jax\n- {summary["model"]}\n---\n{MARK}'


def _curves(workdir: epath.Path) -> str:
    return '![Loss and headline metric over the steps](curves.png)' if (workdir / 'curves.png').exists() else ''


def _results(workdir: epath.Path, summary: Mapping[str, Any], measures: Measures) -> Iterable[str]:
    rows = [(metric.label, metric.written(summary.get(f'test_{metric.name}'))) for metric in measures.metrics]
    which = 'raw' if summary.get('ema_sha256') is None else 'averaged'
    yield f'After {summary["step"]:,} steps, on {summary.get("test_count") or 0:,} images, with {which} parameters:'
    yield _table(('metric', 'value'), rows)
    yield 'This command measures them, where this folder is:'
    yield f'```\npython -m mobilenets_jax eval --workdir={_folder_name(workdir)} --step={summary["step"]}\n```'


def _network(summary: Mapping[str, Any], config: Mapping[str, Any], model: nn.Module) -> Iterable[str]:
    size = height_and_width(config['image_size'])
    counts = count_module(model, size)
    fields = config['model']
    yield _table(
        ('', ''),
        [
            ('task', config['task']),
            ('network', f'{summary["model"]}, width {fields["width_multiplier"]:g}, convention {fields["convention"]}'),
            ('images', f'{size[0]} x {size[1]} pixels, range {config["data"]["normalization"]}'),
            ('parameters', f'{counts.params:,}'),
            ('multiply-adds', f'{counts.madds:,}'),
        ],
    )


def _data(config: Mapping[str, Any], dataset: Dataset) -> Iterable[str]:
    names = dataset.class_names
    more = f' and {len(names) - LISTED_CLASSES} more' if len(names) > LISTED_CLASSES else ''
    data = config['data']
    yield _table(
        ('', ''),
        [
            ('data', f'{data["name"]} {data["dir"]}'.strip()),
            ('training images', f'{dataset.num_train:,}'),
            ('evaluation images', f'{dataset.num_eval:,}'),
            (f'{dataset.num_classes} classes', ', '.join(names[:LISTED_CLASSES]) + more),
        ],
    )


def _config(workdir: epath.Path, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterable[str]:
    now, before = ConfigView(config, '').leaves(), ConfigView(defaults, '').leaves()
    changed = [(path.removeprefix('.'), _shown(value)) for path, value in now.items() if value != before.get(path)]
    yield 'What differs from the defaults of `configs/base.py`; `config.json` has all fields:'
    yield _table(('field', 'value'), changed)
    yield 'This command trains another run like it, in the folder NEW:'
    name = _folder_name(workdir)
    yield f'```\npython -m mobilenets_jax train --config=configs/saved.py:{name}/config.json --workdir=NEW\n```'


def _made_with(summary: Mapping[str, Any]) -> Iterable[str]:
    device = jax.devices()[0]
    kind = machine.processor_name() if device.platform == 'cpu' else device.device_kind
    versions = ', '.join(f'{name} {importlib.metadata.version(name)}' for name in PACKAGES)
    rows = [
        ('hardware', f'{jax.device_count()} device(s) of {kind}, {jax.process_count()} process(es)'),
        ('time', f'{summary["seconds"]:.0f} s in {summary["starts"]} start(s)'),
        ('speed', f'{summary["images_per_second"]:.0f} images/s in training steps'),
        ('versions', f'Python {platform.python_version()}, {versions}'),
        ('code', ', '.join(filter(None, (f'sha256 {code_version()}', (sha := commit()) and f'commit {sha}')))),
    ]
    yield _table(('', ''), rows)


def _folder_name(workdir: epath.Path) -> str:
    return workdir.name if is_bucket(workdir) else pathlib.Path(workdir).resolve().name


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_LENGTH else f'{text[: VALUE_LENGTH - 1]}…'


def _section(title: str, parts: Iterable[str]) -> str:
    return '\n\n'.join([f'## {title}', *parts])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace('|', r'\|') for cell in row] for row in rows]
    return '\n'.join(markdown([header, *escaped], (0, 1)))
