"""Tables of latencies with an entry for each block, in the formats that they were published in.

Reference: mit-han-lab/proxylessnas search/utils/latency_estimator.py and mit-han-lab/once-for-all
    ofa/nas/efficiency_predictor/latency_lookup_table.py (names of their entries); AberHu/TF-NAS tools/lat_lookup.py;
    enyac-group/single-path-nas nas-search/pixel1_runtime_model.json.
"""

import io
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml
from etils import epath

from mobilenets_jax.errors import UserError, check, did_you_mean, one_line
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.operations import Position, positions
from mobilenets_jax.search.proxylessnas_layers import layer_options, proxylessnas_decisions
from mobilenets_jax.search.spaces import get_space

Names = Callable[[NetworkSpec, int], Iterable[str]]


class LookUpTable:
    """A latency model that adds the entries of a network's blocks.

    Args:
        device: what was measured, with what.
        entries: milliseconds by name.
        names: of the entries of a network at an image size.
        source: what messages call the table.
    """

    def __init__(self, device: str, entries: Mapping[str, float], names: Names, source: str):
        self.device = device
        self._entries, self._names, self._source = entries, names, source

    def milliseconds(self, spec: NetworkSpec, image_size: int = 224) -> float:
        """See `latency.LatencyModel`."""
        total = 0.0
        for name in self._names(spec, image_size):
            if name not in self._entries:
                hint = did_you_mean(name, self._entries, cutoff=0.6)
                raise UserError(f'{self._source} has no entry {name!r}.{hint}')
            total += self._entries[name]
        return total


def read_proxylessnas(path: str) -> LookUpTable:
    """ProxylessNAS's table of a Pixel 1 (YAML), of the space 'proxylessnas_24' at 224 px."""
    return LookUpTable('Pixel 1, TensorFlow Lite of 2018', _means(path), _proxylessnas_names, path)


def read_once_for_all(path: str) -> LookUpTable:
    """Once-for-All's table of a Samsung Note10 (YAML), of the space 'once_for_all' at the file's image size."""
    return LookUpTable('Samsung Note10', _means(path), _once_for_all_names, path)


def read_single_path_nas(path: str) -> LookUpTable:
    """Single-Path NAS's table of a Pixel 1 (JSON): the layers of 'proxylessnas_24' without stem, head and 7x7 kernels.

    A layer is known by its number; where one is left out, it is taken to be the last of its stage.
    """
    layers = read_object(path, json.loads)
    entries = {}
    for number, options in layers.items():
        check(isinstance(options, dict), f'{path}: layer {number}', options, 'must be an object')
        entries |= {f'{number}/{option}': number_of(f'{path}: {number}/{option}', ms) for option, ms in options.items()}
    return LookUpTable('Pixel 1, one big core', entries, _single_path_names, path)


def read_tf_nas(path: str) -> LookUpTable:
    """TF-NAS's table of a Xeon (a pickle, read without executing anything): every expansion, in steps of one channel.

    Its entry 'base' stands for the stem, the first block and all behind the blocks.
    """
    entries = {}
    for block, widths in read_object(path, _read_plain).items():
        values = widths if isinstance(widths, dict) else {'': widths}
        names = {width: f'{block}/{width}' if width else block for width in values}
        entries |= {names[width]: number_of(f'{path}: {names[width]}', ms) for width, ms in values.items()}
    return LookUpTable('Intel Xeon Gold 6130, PyTorch 1.1, one thread', entries, _tf_nas_names, path)


class _Plain(pickle.Unpickler):
    """Reads dictionaries and numbers; refuses to import anything else."""

    def find_class(self, module: str, name: str) -> type:
        """`OrderedDict` alone."""
        if (module, name) != ('collections', 'OrderedDict'):
            raise pickle.UnpicklingError(f'it would import {module}.{name}')
        return OrderedDict


def _read_plain(data: bytes) -> Any:
    return _Plain(io.BytesIO(data)).load()


def read_object(path: str, parse: Callable[[bytes], Any]) -> dict:
    """The object that a file holds; raises `UserError` where it cannot be read or holds none."""
    try:
        found = parse(epath.Path(path).expanduser().read_bytes())
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}.') from error
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = one_line(error)
        raise UserError(f'{path} is no table of latencies: {reason:.200}.') from error
    check(isinstance(found, dict) and bool(found), path, type(found).__name__, 'is no table of latencies')
    return found


def number_of(label: str, value: Any) -> float:
    """The milliseconds of an entry; raises `UserError` naming it where they are none."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    check(number, label, value, 'must be a number of milliseconds')
    return float(value)


def _means(path: str) -> dict[str, float]:
    """The means of a table whose entries have `count`, `mean` and a deviation."""
    table = read_object(path, yaml.safe_load)
    for name, entry in table.items():
        check(isinstance(entry, dict) and 'mean' in entry, f'{path}: {name}', entry, "must have a 'mean'")
    return {name: number_of(f'{path}: {name}', entry['mean']) for name, entry in table.items()}


def _blocks(spec: NetworkSpec, image_size: int) -> list[Position]:
    """All rows, which must be inverted residuals with a convolution and no pooling around them."""
    found = list(positions(spec, image_size))
    for at in found:
        check(at.row.kind == 'inverted_residual', 'kind', at.row.kind, 'is no block of a table of latencies')
    check(spec.head_conv is not None, 'head_conv', None, 'is in every network of a table of latencies')
    return found


def _square(size: int, channels: int) -> str:
    return f'{size}x{size}x{channels}'


def _stem_name(spec: NetworkSpec, image_size: int, first: Position) -> str:
    return f'Conv-input:{_square(image_size, 3)}-output:{_square(first.in_size, first.in_channels)}'


def _block_name(at: Position, expand: float) -> str:
    row = at.row
    return (
        f'expanded_conv-input:{_square(at.in_size, at.in_channels)}-output:{_square(at.out_size, row.out_channels)}'
        f'-expand:{expand:g}-kernel:{row.kernel_size}-stride:{row.stride}-idskip:{int(row.adds_residual(at.in_channels))}'
    )


def _proxylessnas_names(spec: NetworkSpec, image_size: int) -> Iterable[str]:
    blocks, head = _blocks(spec, image_size), spec.head_conv.channels
    yield _stem_name(spec, image_size, blocks[0])
    for at in blocks:
        check(at.row.squeeze_excite is None, 'squeeze_excite', at.row.squeeze_excite, 'is in no table of ProxylessNAS')
        yield _block_name(at, at.row.expanded / at.in_channels)
    size, channels = blocks[-1].out_size, blocks[-1].row.out_channels
    yield f'Conv_1-input:{_square(size, channels)}-output:{_square(size, head)}'
    yield f'Logits-input:{_square(size, head)}-output:1000'


def _once_for_all_names(spec: NetworkSpec, image_size: int) -> Iterable[str]:
    blocks, head = _blocks(spec, image_size), spec.head_conv.channels
    yield _stem_name(spec, image_size, blocks[0])
    for at in blocks:
        has_se, has_hs = at.row.squeeze_excite is not None, at.row.activation == 'hard_swish'
        yield f'{_block_name(at, at.row.expanded)}-se:{int(has_se)}-hs:{int(has_hs)}'
    size, channels = blocks[-1].out_size, blocks[-1].row.out_channels
    yield f'Conv_1-input:{_square(size, channels)}-output:{_square(size, head)}'
    yield f'AvgPool2D-input:{_square(size, head)}-output:{_square(1, head)}'
    yield f'Conv_2-input:{_square(1, head)}-output:{_square(1, spec.pre_logits or 0)}'
    yield f'Logits-input:{_square(1, spec.pre_logits or 0)}-output:1000'


def _single_path_names(spec: NetworkSpec, image_size: int) -> Iterable[str]:
    """'LAYER/OPTION', where the options are k3e3, k3e6, k5e3, k5e6; all of the first layer's stand for k3e1."""
    check(image_size == 224, 'image_size', image_size, 'must be 224 for the table of Single-Path NAS')
    options = {(3, 3): 0, (3, 6): 1, (5, 3): 2, (5, 6): 3}
    decided = proxylessnas_decisions(get_space('proxylessnas_24'), spec)
    for number, (kernel_size, expand) in enumerate(layer_options(get_space('proxylessnas_24'), decided)):
        if kernel_size is None:  # left out
            continue
        key = (kernel_size, 3 if expand is None else expand)
        check(key in options, 'kernel_size', kernel_size, 'is not in the table of Single-Path NAS')
        yield f'{number}/{options[key]}'


def _tf_nas_names(spec: NetworkSpec, image_size: int) -> Iterable[str]:
    check(image_size == 224, 'image_size', image_size, 'must be 224 for the table of TF-NAS')
    yield 'base'
    for at in _blocks(spec, image_size)[1:]:
        row = at.row
        yield (
            f'MBInvertedResBlock_{at.in_size}_{at.in_channels}_{at.squeezed}_{row.out_channels}_k{row.kernel_size}'
            f'_s{row.stride}_{row.activation}/{row.expanded}'
        )
