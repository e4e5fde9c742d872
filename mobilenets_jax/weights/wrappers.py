"""Takes a PyTorch network out of the modules that training scripts wrap around it.

DataParallel, torch.compile, Lightning and one's own modules put a prefix before every name: 'module.', '_orig_mod.',
'model.', 'net.backbone.', in any nesting. The prefix is the part before the name of the stem's convolution.
"""

import dataclasses
import re

import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.names import SOURCES, detection, segmentation

LAYOUT = 'pytorch'
MAX_LISTED = 3  # names in a note

# Names that wrappers insert between a module and its children, at any place.
_INSERTED = re.compile(r'(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')
_EMA = re.compile(r'(?:^|[._])(?:ema|swa|averaged?)(?:[._]|$)', re.IGNORECASE)
_NO_LAYER = re.compile('(?:^|[._])(?:aux_classifier|loss|criterion|metrics?|acc|accuracy)(?:[._]|$)', re.IGNORECASE)
_IMAGE_CHANNELS = 3


def unwrapped(file: WeightFile, path: str) -> WeightFile:
    """`file` with the names that its network would have alone; other formats have no wrappers.

    Arrays outside of the network that cannot be layers (single numbers, vectors, parts of a loss) are left out with
    a note; anything else stays, so that it refuses the file.

    Raises:
        UserError: there are several networks in the file, and none is the average of another.
    """
    if file.layout != LAYOUT:
        return file
    arrays = {_INSERTED.sub('', name): array for name, array in file.arrays.items()}
    prefixes = _prefixes(arrays)
    prefix, notes = _chosen(prefixes, path)
    others = tuple(other for other in prefixes if other != prefix)
    kept: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    for name, array in arrays.items():
        if name.startswith(others) or _is_no_layer(name, array, inside=name.startswith(prefix)):
            left_out.append(name)
        else:
            kept[name.removeprefix(prefix)] = array
    if left_out:
        listed = ', '.join(left_out[:MAX_LISTED]) + (', ...' if len(left_out) > MAX_LISTED else '')
        notes = (*notes, f'{len(left_out)} of its arrays, which are no layers of the network, are left out: {listed}')
    contents = dataclasses.replace(file.contents, arrays=kept, notes=(*file.contents.notes, *notes))
    return dataclasses.replace(file, contents=contents)


def _prefixes(arrays: dict[str, np.ndarray]) -> list[str]:
    """The prefixes of the stems of the networks in the file: '' for a network that is not wrapped."""
    maps = [name_map for source in SOURCES.values() if source.layout == LAYOUT for name_map in source.maps.values()]
    stems = {name_map.stem for name_map in maps} | {segmentation.STEM, detection.STEM}
    found: dict[str, None] = {}
    for name, array in arrays.items():
        if array.ndim != 4 or array.shape[1] != _IMAGE_CHANNELS:
            continue
        for stem in stems:
            if name == f'{stem}.weight':
                return ['']
            if name.endswith(f'.{stem}.weight'):
                found[name.removesuffix(f'{stem}.weight')] = None
    # Of 'layers.0' and 'x.layers.0', both stems of one convolution, the shorter prefix leaves the whole name.
    return [prefix for prefix in found if not any(prefix != other and prefix.startswith(other) for other in found)]


def _chosen(prefixes: list[str], path: str) -> tuple[str, tuple[str, ...]]:
    if len(prefixes) < 2:
        return prefixes[0] if prefixes else '', ()
    averages = [prefix for prefix in prefixes if _EMA.search(prefix)]
    if len(averages) != 1:
        raise UserError(
            f'weights={path!r} hold {len(prefixes)} networks: {", ".join(f"{prefix}*" for prefix in prefixes)}; '
            'save the state dict of one of them.'
        )
    return averages[0], (f'of its networks the averages {averages[0]}* are taken',)


def _is_no_layer(name: str, array: np.ndarray, *, inside: bool) -> bool:
    """Whether an array belongs to no layer; `inside` the network every vector may be a bias, outside none is."""
    return _NO_LAYER.search(name) is not None or (array.ndim < 2 and not inside)
