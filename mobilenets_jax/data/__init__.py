"""Classification data: exact, deterministic and resumable input, from memory, image folders and TFDS.

    dataset = create_dataset('digits', image_size=32, batch_size=64, seed=0)
    for batch in dataset.train_batches(Layout(process_index=0, process_count=1, local_device_count=8)):
        ...

The order of the examples is a function of the seed alone, and every random choice one of (seed, epoch, index of the
example), so that runs can be stopped, resumed and laid out on other hosts without changing what the model sees.
TensorFlow is imported when a data set is created that needs it, and not before.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mobilenets_jax.data.dataset import Dataset
from mobilenets_jax.data.options import ImageOptions, MemoryOptions, Options, Reading
from mobilenets_jax.data.order import Layout
from mobilenets_jax.data.shapes_only import SIZES, ShapesOnly
from mobilenets_jax.errors import UserError, check_choice

__all__ = ['Dataset', 'Layout', 'create_dataset', 'fields_of_source']

_TFDS = 'tfds:NAME'
_TFDS_PREFIX = 'tfds:'
_DECODED = (Options, ImageOptions, Reading)
# What each source takes beside a folder and a split, of which the embedded digits have none.
SOURCES = {
    'digits': (Options,),
    'image_folder': _DECODED,
    'memory_folder': (Options, MemoryOptions),
    'records': _DECODED,
    _TFDS: _DECODED,
}


def create_dataset(
    name: str,
    *,
    directory: str = '',
    train_split: str = '',
    eval_split: str = '',
    shapes_only: bool = False,
    **choices: Any,
) -> Dataset:
    """Opens a data set and checks it, without reading an image.

    Args:
        name: 'digits' (embedded), 'image_folder', 'memory_folder' (an image folder kept in memory), 'records' (an image
            folder prepared as sharded records) or 'tfds:NAME'.
        directory: of the image folder, the prepared records or TFDS's data ('' = TFDS's own); not of the digits.
        train_split: the split to train on; '' for the one of that name. The digits have their own.
        eval_split: the split to evaluate on; '' for the source's default, the validation split if it has one. The
            digits have their own.
        shapes_only: whether a data set of known sizes is not opened: see `shapes_only`.
        **choices: the fields of `options.Options`; of `options.MemoryOptions`, which concern folders in memory; and of
            `options.ImageOptions` and `options.Reading`, which concern what is decoded on the host.

    Raises:
        UserError: an unknown choice, a value out of range, or data that are missing or do not fit together.
        TypeError: a choice that no source has.
    """
    kinds = (Options, MemoryOptions, ImageOptions, Reading)
    options, memory_options, image_options, reading = _take_choices(choices, *kinds)
    if shapes_only and name in SIZES and not train_split:
        return ShapesOnly(name, options)
    if name == 'digits':
        return _import_source('digits', name).create(options)
    if name == 'memory_folder':
        return _import_source('memory_folder', name).create(directory, train_split, eval_split, options, memory_options)
    known = name in ('image_folder', 'records') or name.startswith(_TFDS_PREFIX)
    if not known:
        check_choice('data.name', name, SOURCES)
    if name.startswith(_TFDS_PREFIX):
        source = functools.partial(_import_source('tfds_source', name).create, name.removeprefix(_TFDS_PREFIX))
    else:
        source = _import_source(name, name).create
    return source(directory, train_split, eval_split, options, image_options, reading)


def fields_of_source(name: str) -> frozenset[str]:
    """The fields of `config.data`, beside its name, that the source `name` uses; none for an unknown one."""
    options = SOURCES.get(_TFDS if name.startswith(_TFDS_PREFIX) else name, ())
    fields = {field.name for option in options for field in dataclasses.fields(option)}
    of_files = {'dir', 'train_split', 'eval_split'} if options and name != 'digits' else set()
    return frozenset(fields | of_files)


def _take_choices(choices: Mapping[str, Any], *kinds: type) -> list[Any]:
    """An object of each kind, a dataclass, from those of the choices that are its fields."""
    taken = [{field.name for field in dataclasses.fields(kind)} & choices.keys() for kind in kinds]
    unknown = choices.keys() - set().union(*taken)
    if unknown:
        raise TypeError(f'no data set has the choice {", ".join(sorted(unknown))}')
    return [kind(**{name: choices[name] for name in names}) for kind, names in zip(kinds, taken, strict=True)]


def _import_source(module: str, name: str) -> ModuleType:
    """Imports a module of this package that needs more than JAX; `UserError` if what it needs is not installed."""
    try:
        return importlib.import_module(f'{__name__}.{module}')
    except ModuleNotFoundError as error:
        raise UserError(f'data.name={name!r} needs the Python package {error.name}, which is not installed.') from error
