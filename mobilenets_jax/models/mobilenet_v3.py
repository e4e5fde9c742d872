"""MobileNetV3-Large and -Small, and their minimalistic forms: searched networks with h-swish and squeeze-excite.

Paper: Howard et al., Searching for MobileNetV3, 1905.02244v5, Tables 1 and 2.
Reference: tensorflow/models research/slim/nets/mobilenet/mobilenet_v3.py@03cdc5f; torchvision 0.28
    models/mobilenetv3.py; keras applications/mobilenet_v3.py@3422977.
Differs: Table 2 ticks SE on the 576-channel convolution; no implementation has it, nor has this one. 'RE' is plain
    ReLU, as in all code. Version 1 of the paper has one more 14x14 row in Table 1 and a 1280-wide Small head; both are
    gone from version 5 and from the code.
"""

import dataclasses

from mobilenets_jax.models.specs import Architecture, BlockSpec, Convention, ConvSpec, NetworkSpec, Published

CONVENTIONS = {
    'tf': Convention(bn_momentum=0.997),
    'keras': Convention(bn_momentum=0.999, stem='fixed', head_conv='six_times_last', initializer='keras'),
    'torchvision': Convention(
        padding='symmetric',
        bn_momentum=0.99,
        expansion='table',
        head_conv='six_times_last',
        last_channels='scaled',
        initializer='torchvision',
        dilate_strided_block=True,
    ),
}

_NONLINEARITIES = {'RE': 'relu', 'HS': 'hard_swish'}


def _row(k: int, exp: int, out: int, se: str, nl: str, s: int) -> BlockSpec:
    return BlockSpec(
        kernel_size=k,
        expanded=exp,
        out_channels=out,
        squeeze_excite=se == 'SE',
        activation=_NONLINEARITIES[nl],
        stride=s,
    )


LARGE = NetworkSpec(
    name='mobilenet_v3_large',
    stem=ConvSpec(channels=16, kernel_size=3, stride=2, activation='hard_swish'),
    blocks=(
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
    head_conv=ConvSpec(channels=960, activation='hard_swish'),  # C5
    pre_logits=1280,
    head_activation='hard_swish',
    dropout_rate=0.2,
    convention=CONVENTIONS['tf'],
)

SMALL = NetworkSpec(
    name='mobilenet_v3_small',
    stem=ConvSpec(channels=16, kernel_size=3, stride=2, activation='hard_swish'),  # C1
    blocks=(
        # k, exp, out, SE, NL, s
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
    head_conv=ConvSpec(channels=576, activation='hard_swish'),  # C5
    pre_logits=1024,
    head_activation='hard_swish',
    dropout_rate=0.2,
    convention=CONVENTIONS['tf'],
)


def minimalistic(table: NetworkSpec) -> NetworkSpec:
    """The same table without squeeze-excite and h-swish, all kernels 3x3 (slim's `V3_*_MINIMALISTIC`)."""
    return dataclasses.replace(
        table,
        name=f'{table.name}_minimalistic',
        stem=dataclasses.replace(table.stem, activation='relu'),
        blocks=tuple(
            dataclasses.replace(row, kernel_size=3, squeeze_excite=False, activation='relu') for row in table.blocks
        ),
        head_conv=dataclasses.replace(table.head_conv, activation='relu'),
        head_activation='relu',
    )


_PAPER = '1905.02244v5 Table 9'
_SLIM = 'slim mobilenet/README.md@0ba83cf'

ARCHITECTURES = (
    Architecture(
        table=LARGE,
        conventions=CONVENTIONS,
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
            'Width 1.25: the paper prints 7.5M parameters, which keeps the 1280-wide layer; the released code scales '
            "it above width 1.0 (8.26M). `last_channels='kept'` gives the paper's.",
            'Table 3 prints 219M multiply-adds for width 1.0, Table 9 prints 217M.',
        ),
    ),
    Architecture(
        table=SMALL,
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
        table=minimalistic(LARGE),
        conventions=CONVENTIONS,
        published={(1.0, 224): Published(params=3.9, madds=209, top1=72.3, source=_SLIM)},
    ),
    Architecture(
        table=minimalistic(SMALL),
        conventions=CONVENTIONS,
        published={(1.0, 224): Published(params=2.0, madds=65, top1=61.9, source=_SLIM)},
        notes=('The slim README prints 65M multiply-adds; its table gives 52.3M.',),
    ),
)
