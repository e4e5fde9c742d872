"""The spaces that the papers searched, as choices over rows of `models.specs`.

Paper: Tan et al., MnasNet, 1807.11626, section 4.1; Cai et al., ProxylessNAS, 1812.00332, section 4.2; Howard et al.,
    Searching for MobileNetV3, 1905.02244, sections 4 and 5; Bender et al., TuNAS, 2008.06120; Cai et al.,
    Once-for-All, 1908.09791, section 4.1.
Reference: google-research tunas/mobile_search_space_v3.py@0c1bbe5 (ProxylessNAS's space and the one around MobileNetV3,
    with every choice by itself); mit-han-lab/once-for-all elastic_nn/networks/ofa_mbv3.py.
Differs: MnasNet's paper says neither how scaled channels are rounded nor which pooling its third skip is. Both of its
    networks are points of the space if channels below 64 go to the nearest multiple of 8 and all others down to one of
    16 (1.25 x 96 is A1's 112, 1.25 x 160 is B1's 192), so they do; the pooling is the mean of 3x3 pixels. TuNAS's own
    squeeze-excite has a sigmoid, this one MobileNetV3's hard sigmoid.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mobilenets_jax.errors import check_choice
from mobilenets_jax.models import get_spec, mobilenet_v2
from mobilenets_jax.models import mnasnet as mnasnet_tables
from mobilenets_jax.models.specs import BlockSpec, NetworkSpec, SqueezeExciteSpec, make_divisible
from mobilenets_jax.search.space import Choice, Space

KERNELS = (3, 5, 7)
# Of TuNAS: a width is one of these parts of the table's.
WIDTHS = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)
_SE = SqueezeExciteSpec()


def mnasnet() -> Space:
    """MnasNet's factorised hierarchical space: seven blocks of equal layers around MobileNetV2's, 432 options each."""
    stages = [list(rows) for _, rows in itertools.groupby(mobilenet_v2.TABLE.blocks, lambda row: row.out_channels)]
    choices = []
    for number, rows in enumerate(stages, start=1):
        name = f'block{number}'
        choices.append(Choice(name=f'{name}/layers', options=(-1, 0, 1)))
        # A block of one layer fewer than one is left out.
        needs = (f'{name}/layers', (0, 1)) if len(rows) == 1 else None
        for part, options in (
            ('op', ('conv', 'sepconv', 'mbconv3', 'mbconv6')),
            ('kernel', (3, 5)),
            ('se', (0.0, 0.25)),
            ('skip', ('identity', 'pool', 'none')),
            ('filters', (0.75, 1.0, 1.25)),
        ):
            choices.append(Choice(name=f'{name}/{part}', options=options, needs=needs))

    def build(options: Mapping[str, Any]) -> NetworkSpec:
        blocks, width = [], mnasnet_tables.A1.stem.channels
        for number, rows in enumerate(stages, start=1):
            chosen = {part: options[f'block{number}/{part}'] for part in ('op', 'kernel', 'se', 'skip', 'filters')}
            out_channels = _mnasnet_width(rows[0].out_channels * chosen.pop('filters'))
            for layer in range(len(rows) + options[f'block{number}/layers']):
                stride = rows[0].stride if layer == 0 else 1
                blocks.append(_mnasnet_row(width, out_channels, stride, **chosen))
                width = out_channels
        return dataclasses.replace(mnasnet_tables.A1, blocks=tuple(blocks))

    return Space(name='mnasnet', choices=tuple(choices), build=build)


def _mnasnet_width(channels: float) -> int:
    return int(channels // 16 * 16) if channels >= 64 else max(8, int(channels / 8 + 0.5) * 8)


def _mnasnet_row(width: int, out_channels: int, stride: int, op: str, kernel: int, se: float, skip: str) -> BlockSpec:
    expanded = {'conv': out_channels, 'sepconv': width, 'mbconv3': 3 * width, 'mbconv6': 6 * width}[op]
    return BlockSpec(
        kind='dense_conv' if op == 'conv' else 'inverted_residual',
        kernel_size=kernel,
        expanded=expanded,
        out_channels=out_channels,
        squeeze_excite=SqueezeExciteSpec(relative_to='input', divisor=1, gate='sigmoid') if se else None,
        activation='relu',
        stride=stride,
        residual=skip != 'none',
        residual_pool=skip == 'pool',
    )


def proxylessnas(name: str = 'proxylessnas', first_stage: int = 32) -> Space:
    """ProxylessNAS's space of 22 layers: kernel, expansion, and whether a layer that keeps its shape is there.

    Args:
        name: of the space.
        first_stage: its channels: 32 in the published network and in TuNAS, 24 in MnasNet-B1 and in the tables of
            latencies that were published for such networks.
    """
    # Channels, layers, stride.
    stages = ((first_stage, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))
    layers = [
        (channels, stride if position == 0 else 1) for channels, count, stride in stages for position in range(count)
    ]
    choices = [Choice(name='layer01/kernel', options=KERNELS)]
    parts = {'kernel': KERNELS, 'expand': (3, 6)}
    for number in range(2, len(layers) + 2):
        choices += _layer_choices(f'layer{number:02d}', parts, skippable=_repeats(layers, number - 2))

    def build(options: Mapping[str, Any]) -> NetworkSpec:
        blocks = [_row(options['layer01/kernel'], 32, 16, 1, 'relu6')]
        for number, (channels, stride) in enumerate(layers, start=2):
            chosen = _options_of(options, f'layer{number:02d}')
            if not chosen.get('skip', False):
                expanded = chosen['expand'] * blocks[-1].out_channels
                blocks.append(_row(chosen['kernel'], expanded, channels, stride, 'relu6'))
        return dataclasses.replace(mobilenet_v2.TABLE, blocks=tuple(blocks))

    kept = functools.partial(_not_skipped, count=len(layers) + 1)
    return Space(name=name, choices=tuple(choices), build=build, kept=kept)


def _row(
    kernel_size: int, expanded: int, out_channels: int, stride: int, activation: str, has_se: bool = False
) -> BlockSpec:
    return BlockSpec(
        kernel_size=kernel_size,
        expanded=expanded,
        out_channels=out_channels,
        squeeze_excite=_SE if has_se else None,
        activation=activation,
        stride=stride,
    )


def _not_skipped(options: Mapping[str, Any], count: int) -> list[bool]:
    """Whether each of the first `count` layers is there."""
    return [not options.get(f'layer{number:02d}/skip', False) for number in range(1, count + 1)]


def _repeats(layers: Sequence[tuple[int, int]], index: int) -> bool:
    """Whether a layer keeps the shape of its input, so that it can be left out."""
    return index > 0 and layers[index] == (layers[index - 1][0], 1)


def _layer_choices(name: str, parts: Mapping[str, tuple], *, skippable: bool) -> list[Choice]:
    """The choices of a layer; where it can be left out they need it to be there."""
    skip = [Choice(name=f'{name}/skip', options=(False, True))] if skippable else []
    needs = (f'{name}/skip', (False,)) if skippable else None
    return skip + [Choice(name=f'{name}/{part}', options=options, needs=needs) for part, options in parts.items()]


# Of the five stages of TuNAS's space: channels at width 1.0, stride, activation.
_TUNAS_V3 = ((16, 2, 'relu'), (32, 2, 'relu'), (64, 2, 'hard_swish'), (128, 1, 'hard_swish'), (256, 2, 'hard_swish'))


def tunas_v3() -> Space:
    """TuNAS's space around MobileNetV3 (its 'MobileNetV3-Like'): widths, kernels, expansions, SE and layers."""
    choices = [
        Choice(name='stem/kernel', options=(3, 5)),
        Choice(name='stem/channels', options=_scaled(16)),
        *_layer_choices('layer01', {'kernel': KERNELS}, skippable=True),
    ]
    parts = {'kernel': KERNELS, 'expand': (1, 2, 3, 4, 5, 6), 'se': (False, True)}
    for stage, (channels, _, _) in enumerate(_TUNAS_V3):
        choices.append(Choice(name=f'stage{stage + 1}/channels', options=_scaled(channels)))
        for position in range(4):
            choices += _layer_choices(_layer(stage, position, first=2), parts, skippable=position > 0)
    choices.append(Choice(name='head_conv/channels', options=_scaled(512)))
    choices.append(Choice(name='pre_logits/channels', options=_scaled(1024)))
    kept = functools.partial(_not_skipped, count=1 + 4 * len(_TUNAS_V3))
    return Space(name='tunas_v3', choices=tuple(choices), build=_build_tunas_v3, kept=kept)


def _build_tunas_v3(options: Mapping[str, Any]) -> NetworkSpec:
    width, kernel_size = options['stem/channels'], options['stem/kernel']
    first = _row(options['layer01/kernel'], width, width, 1, 'relu')
    blocks = [] if options['layer01/skip'] else [first]
    for stage, (_, stride, activation) in enumerate(_TUNAS_V3):
        for position in range(4):
            chosen = _options_of(options, _layer(stage, position, first=2))
            if chosen.get('skip', False):
                continue
            expanded, out_channels = chosen['expand'] * width, options[f'stage{stage + 1}/channels']
            row_stride = stride if position == 0 else 1
            blocks.append(_row(chosen['kernel'], expanded, out_channels, row_stride, activation, chosen['se']))
            width = out_channels
    large = get_spec('mobilenet_v3_large')
    return dataclasses.replace(
        large,
        stem=dataclasses.replace(large.stem, channels=options['stem/channels'], kernel_size=kernel_size),
        blocks=tuple(blocks),
        head_conv=dataclasses.replace(large.head_conv, channels=options['head_conv/channels']),
        pre_logits=options['pre_logits/channels'],
    )


def _layer(stage: int, position: int, first: int) -> str:
    """The name of a layer in stages of four layers; the first stage has the number `first`."""
    return f'layer{first + 4 * stage + position:02d}'


def _options_of(options: Mapping[str, Any], layer: str) -> dict[str, Any]:
    """What is chosen of a layer, e.g. its 'kernel'."""
    return {name.partition('/')[2]: option for name, option in options.items() if name.startswith(f'{layer}/')}


def _scaled(channels: int) -> tuple[int, ...]:
    """The widths that a stage can have."""
    return tuple(sorted({make_divisible(channels * width) for width in WIDTHS}))


def around_v3(name: str) -> Space:
    """All that MobileNetV3's search and NetAdapt could change of its table: the table itself is a point.

    Of every row the kernel, the expansion in steps of 8 channels from 1 to 6 times the input, squeeze-excite, the
    nonlinearity and, where the row keeps its shape, whether it is there; of every run of rows of one width that width.

    Args:
        name: 'mobilenet_v3_large' or 'mobilenet_v3_small', also of the space.
    """
    table = get_spec(name)
    choices, inputs, stages = [], [], []
    width = table.stem.channels
    for number, row in enumerate(table.blocks, start=1):
        repeats = bool(inputs) and row.out_channels == width and row.stride == 1
        if not repeats:
            stages.append(f'stage{len(set(stages)) + 1}')
            choices.append(Choice(name=f'{stages[-1]}/width', options=WIDTHS))
        else:
            stages.append(stages[-1])
        parts = {
            'kernel': KERNELS,
            'expanded': tuple(range(width, 6 * width + 1, 8)),
            'se': (False, True),
            'activation': ('relu', 'hard_swish'),
        }
        choices += _layer_choices(f'layer{number:02d}', parts, skippable=repeats)
        inputs.append(width)
        width = row.out_channels

    def build(options: Mapping[str, Any]) -> NetworkSpec:
        blocks, width = [], table.stem.channels
        for number, (row, table_width, stage) in enumerate(zip(table.blocks, inputs, stages, strict=True), start=1):
            chosen = _options_of(options, f'layer{number:02d}')
            if chosen.get('skip', False):
                continue
            out_channels = make_divisible(row.out_channels * options[f'{stage}/width'])
            expanded = make_divisible(width * chosen['expanded'] / table_width)
            blocks.append(
                _row(chosen['kernel'], expanded, out_channels, row.stride, chosen['activation'], chosen['se'])
            )
            width = out_channels
        return dataclasses.replace(table, blocks=tuple(blocks))

    kept = functools.partial(_not_skipped, count=len(inputs))
    return Space(name=name, choices=tuple(choices), build=build, kept=kept)


# Of the five stages of Once-for-All's space: channels, stride, activation, squeeze-excite.
_ONCE_FOR_ALL = (
    (32, 2, 'relu', False),
    (48, 2, 'relu', True),
    (96, 2, 'hard_swish', False),
    (136, 1, 'hard_swish', True),
    (192, 2, 'hard_swish', True),
)


def once_for_all() -> Space:
    """Once-for-All's space around MobileNetV3-Large, at its 1.2-fold width: depths, kernels and expansions."""
    choices = [Choice(name=f'stage{stage + 1}/depth', options=(2, 3, 4)) for stage in range(5)]
    for part, options in (('kernel', KERNELS), ('expand', (3, 4, 6))):
        for stage, position in itertools.product(range(5), range(4)):
            needs = (f'stage{stage + 1}/depth', tuple(range(position + 1, 5))) if position > 1 else None
            choices.append(Choice(name=f'{_layer(stage, position, first=1)}/{part}', options=options, needs=needs))
    return Space(name='once_for_all', choices=tuple(choices), build=_build_once_for_all, kept=_kept_of_once_for_all)


def _kept_of_once_for_all(options: Mapping[str, Any]) -> list[bool]:
    depths = [options[f'stage{stage + 1}/depth'] for stage in range(5)]
    return [True, *(position < depth for depth in depths for position in range(4))]


def _build_once_for_all(options: Mapping[str, Any]) -> NetworkSpec:
    blocks = [_row(3, 24, 24, 1, 'relu')]
    for stage, (channels, stride, activation, has_se) in enumerate(_ONCE_FOR_ALL):
        for position in range(options[f'stage{stage + 1}/depth']):
            layer = _layer(stage, position, first=1)
            expanded = options[f'{layer}/expand'] * blocks[-1].out_channels
            row_stride = stride if position == 0 else 1
            blocks.append(_row(options[f'{layer}/kernel'], expanded, channels, row_stride, activation, has_se))
    large = get_spec('mobilenet_v3_large')
    return dataclasses.replace(
        large,
        stem=dataclasses.replace(large.stem, channels=24),
        blocks=tuple(blocks),
        head_conv=dataclasses.replace(large.head_conv, channels=1152),
        pre_logits=1536,
    )


SPACES: dict[str, Callable[[], Space]] = {
    'mnasnet': mnasnet,
    'mobilenet_v3_large': lambda: around_v3('mobilenet_v3_large'),
    'mobilenet_v3_small': lambda: around_v3('mobilenet_v3_small'),
    'once_for_all': once_for_all,
    'proxylessnas': proxylessnas,
    'proxylessnas_24': lambda: proxylessnas('proxylessnas_24', 24),
    'tunas_v3': tunas_v3,
}


def get_space(name: str) -> Space:
    """The space `name`; raises `UserError` naming the known ones."""
    check_choice('search.space', name, SPACES)
    return SPACES[name]()
