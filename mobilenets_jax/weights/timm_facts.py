"""What timm says of a file of its weights: a name of one of its models, and how images become the network's input.

The names of timm's arrays do not tell its ports of TensorFlow's weights (tf_...: other padding, epsilon and range) from
its own. The hub keeps a config.json beside the weights, timm's training script writes its arguments into a checkpoint,
and files are called like their model.

Reference: timm 1.0.31 models/_hub.py (`save_config_for_hf`), data/config.py (`resolve_data_config`).
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilenets_jax.data.options import INTERPOLATIONS, NORMALIZATIONS
from mobilenets_jax.errors import UserError
from mobilenets_jax.weights.cards import CARDS, Preprocessing
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.readers.errors import MAX_IMAGE_SIZE

STEM = 'conv_stem.weight'  # of all MobileNets of timm
CONFIG = 'config.json'

_FAMILIES = {
    'mobilenetv1': 'mobilenet_v1',
    'mobilenetv2': 'mobilenet_v2',
    'mobilenetv3_large_minimal': 'mobilenet_v3_large_minimalistic',
    'mobilenetv3_small_minimal': 'mobilenet_v3_small_minimalistic',
    'mobilenetv3_large': 'mobilenet_v3_large',
    'mobilenetv3_small': 'mobilenet_v3_small',
    'mnasnet': 'mnasnet_b1',
    'semnasnet': 'mnasnet_a1',
    'ghostnet': 'ghostnet',
}
_NAME = re.compile(rf'(?<![a-z0-9])(?P<tf>tf_)?(?P<family>{"|".join(_FAMILIES)})_(?P<width>\d{{3}})(?![0-9a-z])')
_OTHERS = {
    'mnasnet_a1': ('mnasnet_a1', 1.0),
    'mnasnet_b1': ('mnasnet_b1', 1.0),
    'mnasnet_small': ('mnasnet_small', 1.0),
}
# Arguments of timm's models that do not change the results of an evaluation.
_HARMLESS = {'num_classes', 'drop_rate', 'drop_path_rate', 'in_chans'}


@dataclasses.dataclass(frozen=True)
class TimmFacts:
    """What is stated.

    Attributes:
        model: the architecture, or None.
        width_multiplier: of it, or None.
        convention: 'tf' or 'timm', or None.
        preprocessing: the fields of `Preprocessing` that are stated.
    """

    model: str | None = None
    width_multiplier: float | None = None
    convention: str | None = None
    preprocessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def timm_facts(file: WeightFile, path: str) -> TimmFacts:
    """What timm says of `file`, which was read from `path`.

    Raises:
        UserError: it says that the network is one that this family does not have, or takes images of no known range.
    """
    if file.layout != 'pytorch' or STEM not in file.arrays:
        return TimmFacts()
    config = _config(pathlib.Path(path).with_name(CONFIG))
    if config is not None:
        return _of_config(config, f'weights={path!r}: {CONFIG} beside it')
    stated = file.contents.timm
    if _parse(str(stated.get('architecture', ''))):
        return _of_config(stated, f'weights={path!r}')
    card = next((card for name, card in CARDS.items() if name == f'timm:{pathlib.Path(path).stem}'), None)
    if card is not None:
        preprocessing = dataclasses.asdict(card.preprocessing)
        return TimmFacts(card.model, card.width_multiplier, card.convention, preprocessing)
    return _of_name(pathlib.Path(path).name)


def _config(path: pathlib.Path) -> dict[str, Any] | None:
    """The config of timm's hub, where there is one."""
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and isinstance(config.get('architecture'), str) else None


def _parse(architecture: str) -> tuple[str, float, str] | None:
    """(model, width, convention) of a timm model's name, tag or not; None for others."""
    name = architecture.rpartition('/')[2].partition('.')[0]
    if name in _OTHERS:
        return (*_OTHERS[name], 'timm')
    match = _NAME.fullmatch(name)
    return match and (_FAMILIES[match['family']], int(match['width']) / 100, 'tf' if match['tf'] else 'timm')


def _of_name(file_name: str) -> TimmFacts:
    """Of a file that is called like a model of timm's, the convention, and of TensorFlow's ports the preprocessing."""
    match = _NAME.search(file_name)
    if match is None:
        return TimmFacts()
    if not match['tf']:
        return TimmFacts(convention='timm')
    return TimmFacts(convention='tf', preprocessing={'normalization': 'symmetric', 'interpolation': 'bilinear'})


def _of_config(config: Mapping[str, Any], where: str) -> TimmFacts:
    parsed = _parse(config['architecture'])
    if parsed is None:
        raise UserError(
            f'{where} says that it is the {config["architecture"]} of timm, which this family does not have.'
        )
    arguments = set(config.get('model_args') or {}) - _HARMLESS
    pooling = config.get('global_pool') or 'avg'
    if arguments or pooling != 'avg':
        what = f'model_args {", ".join(sorted(arguments))}' if arguments else f'global_pool={pooling!r}'
        raise UserError(f'{where} states {what}, with which the network is none of this family.')
    preprocessing = _preprocessing({**config, **(config.get('pretrained_cfg') or {})}, where, tf=parsed[2] == 'tf')
    return TimmFacts(*parsed, preprocessing)


def _preprocessing(config: Mapping[str, Any], where: str, *, tf: bool) -> dict[str, Any]:
    """The fields of `Preprocessing` in a pretrained config of timm."""
    stated: dict[str, Any] = {'normalization': 'symmetric', 'interpolation': 'bilinear'} if tf else {}
    try:
        if config.get('input_size') is not None:
            channels, height, width = config['input_size']
            if channels != 3 or height != width:
                raise UserError(
                    f'{where} states input_size={config["input_size"]}; square images of 3 channels are read.'
                )
            if int(height) > MAX_IMAGE_SIZE:
                raise UserError(f'{where} states images of {height} px; {MAX_IMAGE_SIZE} px are the most.')
            stated['image_size'] = int(height)
        if config.get('mean') is not None and config.get('std') is not None:
            stated['normalization'] = _find_normalization(config['mean'], config['std'], where)
        if config.get('crop_pct') is not None:
            stated['crop_fraction'] = float(config['crop_pct'])
        if config.get('interpolation') in INTERPOLATIONS:
            stated['interpolation'] = config['interpolation']
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{where} is damaged: {error}.') from error
    return stated


def _find_normalization(mean: Any, std: Any, where: str) -> str:
    for name, expected in NORMALIZATIONS.items():
        if np.shape(mean) == np.shape(std) == (3,) and np.allclose([mean, std], expected, atol=1e-3):
            return name
    raise UserError(f'{where} states mean={mean} and std={std}, which is none of {", ".join(NORMALIZATIONS)}.')


def with_facts(preprocessing: Preprocessing, facts: TimmFacts) -> Preprocessing:
    """`preprocessing` with the stated fields."""
    return dataclasses.replace(preprocessing, **facts.preprocessing)
