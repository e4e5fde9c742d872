"""MobileNetV3-Large and -Small, and their minimalistic forms: searched networks with h-swish and squeeze-excite.

Paper: Howard et al., Searching for MobileNetV3, 1905.02244v5, Tables 1 and 2.
Reference: tensorflow/models research/slim/nets/mobilenet/mobilenet_v3.py@03cdc5f; torchvision 0.28
    models/mobilenetv3.py; keras applications/mobilenet_v3.py@3422977.
Differs: Table 2 ticks SE on the 576-channel convolution; no implementation has it, nor has this one. 'RE' is plain
    ReLU, as in all code. Version 1 of the paper has one more 14x14 row in Table 1 and a 1280-wide Small head; both are
    gone from version 5 and from the code.
"""

import dataclasses
import functools

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.scaling import ScalingConvention, scale
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, SqueezeExciteSpec
from mobilenets_jax.models.tails import FULL, Tail, with_tail

CONVENTIONS = {
    'tf': ScalingConvention(bn_momentum=0.997),
    'keras': ScalingConvention(bn_momentum=0.999, stem='fixed', head_conv='six_times_last', initializer='keras'),
    'torchvision': ScalingConvention(
        padding='symmetric',
        bn_momentum=0.99,
        expansion='table',
        head_conv='six_times_last',
        last_channels='scaled',
        initializer='torchvision',
        dilate_strided_block=True,
    ),
    # timm's `tf_mobilenetv3_*` follow 'tf'.
    'timm': ScalingConvention(
        padding='symmetric',
        bn_momentum=0.9,
        bn_epsilon=1e-5,
        initializer='fan_out',
        stem='fixed_when_narrow',
        last_channels='kept',
    ),
}

# At width 1.25 the paper's Large has 7.5M parameters, which keep the 1280-wide layer; the released code scales it.
LARGE_CONVENTIONS = CONVENTIONS | {
    'tf': dataclasses.replace(CONVENTIONS['tf'], last_channels='kept'),
    'model_garden': CONVENTIONS['tf'],
}

_NONLINEARITIES = {'RE': 'relu', 'HS': 'hard_swish'}


def _row(k: int, exp: int, out: int, se: str, nl: str, s: int) -> BlockSpec:
    return BlockSpec(
        kernel_size=k,
        expanded=exp,
        out_channels=out,
        squeeze_excite=SqueezeExciteSpec() if se == 'SE' else None,
        activation=_NONLINEARITIES[nl],
        stride=s,
    )


def _network(blocks: tuple[BlockSpec, ...], head_channels: int, pre_logits: int) -> NetworkSpec:
    return NetworkSpec(
        stem=ConvSpec(channels=16, kernel_size=3, stride=2, activation='hard_swish'),
        blocks=blocks,
        head_conv=ConvSpec(channels=head_channels, activation='hard_swish'),
        pre_logits=pre_logits,
        head_activation='hard_swish',
        dropout_rate=0.2,
        convention=CONVENTIONS['tf'],
    )


LARGE = _network(
    (
        # k, exp, out, SE, NL, s
        _row(3, 16, 16, '-', 'RE', 1),  # C1
        _row(3, 64, 24, '-', 'RE', 2),
        _row(3, 72, 24, '-', 'RE', 1),  # C2
        _row(5, 72, 40, 'SE', 'RE', 2),
        _row(5, 120, 40, 'SE', 'RE', 1),
        _row(5, 120, 40, 'SE', 'RE', 1),  # C3, C3/depthwise
        _row(3, 240, 80, '-', 'HS', 2),
        _row(3, 200, 80, '-', 'HS', 1),
        _row(3, 184, 80, '-', 'HS', 1),
        _row(3, 184, 80, '-', 'HS', 1),
        _row(3, 480, 112, 'SE', 'HS', 1),
        _row(3, 672, 112, 'SE', 'HS', 1),  # C4
        _row(5, 672, 160, 'SE', 'HS', 2),  # C4/expansion
        _row(5, 960, 160, 'SE', 'HS', 1),
        _row(5, 960, 160, 'SE', 'HS', 1),
    ),
    head_channels=960,  # C5
    pre_logits=1280,
)

SMALL = _network(
    (
        # k, exp, out, SE, NL, s (C1 is the stem)
        _row(3, 16, 16, 'SE', 'RE', 2),  # C2
        _row(3, 72, 24, '-', 'RE', 2),
        _row(3, 88, 24, '-', 'RE', 1),  # C3, C3/depthwise
        _row(5, 96, 40, 'SE', 'HS', 2),
        _row(5, 240, 40, 'SE', 'HS', 1),
        _row(5, 240, 40, 'SE', 'HS', 1),
        _row(5, 120, 48, 'SE', 'HS', 1),
        _row(5, 144, 48, 'SE', 'HS', 1),  # C4
        _row(5, 288, 96, 'SE', 'HS', 2),  # C4/expansion
        _row(5, 576, 96, 'SE', 'HS', 1),
        _row(5, 576, 96, 'SE', 'HS', 1),
    ),
    head_channels=576,  # C5
    pre_logits=1024,
)


TAILS = {'detection': Tail(), 'segmentation': Tail(expansion_divisor=2)}


def minimalistic(table: NetworkSpec) -> NetworkSpec:
    """The same table without squeeze-excite and h-swish, all kernels 3x3 (slim's `V3_*_MINIMALISTIC`)."""
    table = _with_nonlinearity(table, 'relu', hard_swish_from=None)
    return table.replace_rows(kernel_size=3, squeeze_excite=None)


def build(
    table: NetworkSpec,
    width_multiplier: float,
    convention: ScalingConvention,
    *,
    pre_logits: int | None = None,
    nonlinearity: str = 'hard_swish',
    hard_swish_from: int | None = None,
    se_reduction: int = 4,
    se_gate: str = 'hard_sigmoid',
    stem_channels: int = 16,
    last_stage: str = 'efficient',
    tail: str = FULL,
) -> NetworkSpec:
    """The table at a width, with the paper's ablations (section 6.4, Table 5, Figures 5 and 9) as fields.

    Args:
        table: `LARGE` or `SMALL`.
        width_multiplier: positive.
        convention: whose rules.
        pre_logits: the width of the layer after pooling, before scaling; None is the table's.
        nonlinearity: replaces h-swish everywhere: 'hard_swish', 'swish' or 'relu' (Table 5: 74.5 % all ReLU).
        hard_swish_from: blocks with at least as many output channels have the nonlinearity, narrower ones ReLU; None is
            the table's choice (80 in Large: 75.2 %; Table 5 has 16: 75.4 % and 112: 75.0 %).
        se_reduction: the squeeze has 1/se_reduction of the expanded width; 0 leaves squeeze-and-excitation out.
        se_gate: 'hard_sigmoid' or 'sigmoid'.
        stem_channels: of the stem and of the first block's depthwise layer: 16, or 32 as before section 5.2.
        last_stage: 'efficient', or 'original' (Figure 5): one more block of twice the last channels and a 1280-wide
            convolution before pooling, no layer after it.
        tail: 'full', 'detection' (half the channels from the last stride on, the first expansion excepted) or
            'segmentation' (that expansion, too).
    """
    check_choice('nonlinearity', nonlinearity, ('hard_swish', 'swish', 'relu'))
    check_choice('se_gate', se_gate, ('hard_sigmoid', 'sigmoid'))
    check_choice('last_stage', last_stage, ('efficient', 'original'))
    check(se_reduction >= 0, 'se_reduction', se_reduction, 'must not be negative')
    if last_stage == 'original':
        table = _with_original_last_stage(table)
    elif pre_logits is not None:
        table = dataclasses.replace(table, pre_logits=pre_logits)
    table = _with_nonlinearity(table, nonlinearity, hard_swish_from)
    squeeze_excite = SqueezeExciteSpec(reduction=se_reduction, gate=se_gate) if se_reduction else None
    blocks = [
        row if row.squeeze_excite is None else dataclasses.replace(row, squeeze_excite=squeeze_excite)
        for row in table.blocks
    ]
    blocks[0] = dataclasses.replace(blocks[0], expanded=stem_channels)
    stem = dataclasses.replace(table.stem, channels=stem_channels)
    table = dataclasses.replace(table, stem=stem, blocks=tuple(blocks))
    return scale(with_tail(table, TAILS, tail), width_multiplier, convention)


def _with_nonlinearity(table: NetworkSpec, nonlinearity: str, hard_swish_from: int | None) -> NetworkSpec:
    def choose(row: BlockSpec) -> str:
        has_it = row.activation == 'hard_swish' if hard_swish_from is None else row.out_channels >= hard_swish_from
        return nonlinearity if has_it else 'relu'

    return dataclasses.replace(
        table,
        stem=dataclasses.replace(table.stem, activation=nonlinearity),
        blocks=tuple(dataclasses.replace(row, activation=choose(row)) for row in table.blocks),
        head_conv=table.head_conv and dataclasses.replace(table.head_conv, activation=nonlinearity),
        head_activation=nonlinearity,
    )


def _with_original_last_stage(table: NetworkSpec) -> NetworkSpec:
    last = table.blocks[-1].out_channels
    return dataclasses.replace(
        table,
        blocks=(*table.blocks, _row(3, 6 * last, 2 * last, '-', 'HS', 1)),
        head_conv=table.head_conv and dataclasses.replace(table.head_conv, channels=1280),
        pre_logits=None,
    )


_PAPER = '1905.02244v5 Table 9'
_SLIM = 'slim mobilenet/README.md@0ba83cf'

ARCHITECTURES = (
    Architecture(
        name='mobilenet_v3_large',
        build=functools.partial(build, LARGE),
        conventions=LARGE_CONVENTIONS,
        published={
            (1.25, 224): Published(params=7.5, madds=356, top1=76.6, source=_PAPER),
            (1.0, 224): Published(params=5.4, madds=217, top1=75.2, source=_PAPER),
            (0.75, 224): Published(params=4.0, madds=155, top1=73.3, source=_PAPER),
            (0.5, 224): Published(params=2.6, madds=69, top1=68.8, source=_PAPER),
            (0.35, 224): Published(params=2.2, madds=40, top1=64.2, source=_PAPER),
            (1.0, 256): Published(params=5.4, madds=282, top1=76.0, source=_PAPER),
            (1.0, 192): Published(params=5.4, madds=160, top1=73.7, source=_PAPER),
            (1.0, 160): Published(params=5.4, madds=112, top1=71.7, source=_PAPER),
            (1.0, 128): Published(params=5.4, madds=73, top1=68.4, source=_PAPER),
            (1.0, 96): Published(params=5.4, madds=43, top1=63.3, source=_PAPER),
        },
        notes=(
            'Width 1.25: the paper prints 7.5M parameters, which keep the 1280-wide layer, and no weights were '
            'released; the released code scales that layer above width 1.0 (8.26M): convention `model_garden`.',
            'Table 3 prints 219M multiply-adds for width 1.0, Table 9 prints 217M.',
        ),
    ),
    Architecture(
        name='mobilenet_v3_small',
        build=functools.partial(build, SMALL),
        conventions=CONVENTIONS,
        published={
            (1.25, 224): Published(params=3.6, madds=91, top1=70.4, source=_PAPER),
            (1.0, 224): Published(params=2.5, madds=57, top1=67.5, source=_PAPER),
            (0.75, 224): Published(params=2.0, madds=44, top1=65.4, source=_PAPER),
            (0.5, 224): Published(params=1.6, madds=21, top1=58.0, source=_PAPER),
            (0.35, 224): Published(params=1.4, madds=12, top1=49.8, source=_PAPER),
            (1.0, 256): Published(params=2.5, madds=74, top1=68.5, source=_PAPER),
            (1.0, 160): Published(params=2.5, madds=30, top1=62.8, source=_PAPER),
            (1.0, 128): Published(params=2.5, madds=20, top1=57.3, source=_PAPER),
            (1.0, 96): Published(params=2.5, madds=12, top1=51.7, source=_PAPER),
        },
        notes=(
            'The slim README prints 2.9M parameters and 66M multiply-adds: an older network with a 1280-wide head.',
        ),
    ),
    Architecture(
        name='mobilenet_v3_large_minimalistic',
        build=functools.partial(scale, minimalistic(LARGE)),
        conventions=CONVENTIONS,
        published={(1.0, 224): Published(params=3.9, madds=209, top1=72.3, source=_SLIM)},
    ),
    Architecture(
        name='mobilenet_v3_small_minimalistic',
        build=functools.partial(scale, minimalistic(SMALL)),
        conventions=CONVENTIONS,
        published={(1.0, 224): Published(params=2.0, madds=65, top1=61.9, source=_SLIM)},
        notes=('The slim README prints 65M multiply-adds; its table gives 52.3M.',),
    ),
)
