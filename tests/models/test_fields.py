"""The networks' own fields: the ablations of the V3 paper, MobileNeXt's identity tensor, the conventions' constants."""

import pytest
from model_cases import abstract_outputs

from mobilenets_jax.errors import UserError
from mobilenets_jax.models import get_spec


def _hard_swish_widths(**fields) -> list[int]:
    return [
        row.out_channels for row in get_spec('mobilenet_v3_large', **fields).blocks if row.activation == 'hard_swish'
    ]


def test_hard_swish_from_n_channels():
    """Table 5 of the V3 paper: the default is @80; @112 leaves out the four blocks of 80 channels."""
    default = [80] * 4 + [112] * 2 + [160] * 3
    assert _hard_swish_widths() == default
    assert _hard_swish_widths(hard_swish_from=80) == default
    assert _hard_swish_widths(hard_swish_from=112) == default[4:]
    assert len(_hard_swish_widths(hard_swish_from=16)) == 15


@pytest.mark.parametrize('nonlinearity', ['relu', 'swish'])
def test_another_nonlinearity_replaces_hard_swish_everywhere(nonlinearity):
    spec = get_spec('mobilenet_v3_large', nonlinearity=nonlinearity)
    expected = ['relu'] * 6 + [nonlinearity] * 9
    assert [row.activation for row in spec.blocks] == expected
    assert {spec.stem.activation, spec.head_conv.activation, spec.head_activation} == {nonlinearity}


def test_one_rectifier_replaces_the_other_everywhere():
    spec = get_spec('mobilenet_v2', activation='relu')
    layers = [spec.stem, *spec.blocks, spec.head_conv]
    assert {layer.activation for layer in layers} == {'relu'}
    spec = get_spec('mobilenet_v3_small', activation='relu6')
    assert [row.activation for row in spec.blocks] == ['relu6'] * 3 + ['hard_swish'] * 8
    assert spec.stem.activation == spec.head_activation == 'hard_swish'
    with pytest.raises(UserError, match="activation='swish' is unknown. Known: None, relu, relu6"):
        get_spec('mobilenet_v2', activation='swish')
    with pytest.raises(UserError, match='whose blocks have their own'):
        get_spec('shufflenet_v1_g3', activation='relu6')


def test_squeeze_excite_ratio_and_gate():
    spec = get_spec('mobilenet_v3_small', se_reduction=16, se_gate='sigmoid')
    with_se = [row for row in spec.blocks if row.squeeze_excite is not None]
    assert len(with_se) == 9
    assert {row.squeeze_excite.gate for row in with_se} == {'sigmoid'}
    assert [row.squeeze_excite.squeezed(1, row.expanded) for row in with_se] == [8, 8, 16, 16, 8, 16, 24, 40, 40]
    without = get_spec('mobilenet_v3_small', se_reduction=0)
    assert {row.squeeze_excite for row in without.blocks} == {None}


def test_original_last_stage():
    """Figure 5 of the V3 paper: 160 -> 960 -> 320 -> 1280, then pooling."""
    spec = get_spec('mobilenet_v3_large', last_stage='original')
    last = spec.blocks[-1]
    assert (last.expanded, last.out_channels, spec.head_conv.channels, spec.pre_logits) == (960, 320, 1280, None)


@pytest.mark.parametrize(
    ('name', 'tail', 'blocks', 'head_conv', 'pre_logits'),
    [
        # Expansion and output of the blocks from the last stride on.
        ('mobilenet_v3_large', 'full', [(672, 160), (960, 160), (960, 160)], 960, 1280),
        ('mobilenet_v3_large', 'detection', [(672, 80), (480, 80), (480, 80)], 480, 640),
        ('mobilenet_v3_large', 'segmentation', [(336, 80), (480, 80), (480, 80)], 480, 640),
        ('mobilenet_v3_small', 'detection', [(288, 48), (288, 48), (288, 48)], 288, 512),
        ('mobilenet_v3_small', 'segmentation', [(144, 48), (288, 48), (288, 48)], 288, 512),
        ('mobilenet_v2', 'detection', [(576, 80), (480, 80), (480, 80), (480, 160)], 640, None),
        ('mobilenet_v2', 'segmentation', [(576, 80), (480, 80), (480, 80), (480, 160)], None, None),
    ],
)
def test_tails(name, tail, blocks, head_conv, pre_logits):
    """Slim's `V3_*_DETECTION`, deeplab's `mobilenet_v3_*_seg`, torchvision's `reduced_tail`."""
    spec, full = get_spec(name, tail=tail), get_spec(name)
    assert [(row.expanded, row.out_channels) for row in spec.blocks[-len(blocks) :]] == blocks
    assert spec.blocks[: -len(blocks)] == full.blocks[: -len(blocks)]
    assert (spec.head_conv and spec.head_conv.channels, spec.pre_logits) == (head_conv, pre_logits)


def test_tails_of_other_widths_and_networks():
    half = get_spec('mobilenet_v2', 0.5, tail='segmentation').blocks
    assert [(row.expanded, row.out_channels) for row in half[-4:]] == [(288, 40), (240, 40), (240, 40), (240, 80)]
    with pytest.raises(UserError, match="model.tail='short' is unknown. Known: detection, full, segmentation."):
        get_spec('mobilenet_v3_small', tail='short')
    with pytest.raises(UserError, match="model.tail='detection' is no tail of mobilenet_v1, which has 'full' alone."):
        get_spec('mobilenet_v1', tail='detection')
    (_, endpoints), _ = abstract_outputs('mobilenet_v3_large', tail='detection')
    sizes = {name: endpoints[name].shape[1:] for name in ('C4/expansion', 'last_block', 'C5')}
    assert sizes == {'C4/expansion': (14, 14, 672), 'last_block': (7, 7, 80), 'C5': (7, 7, 480)}


def test_identity_fraction():
    third = get_spec('mobilenext', identity_fraction=1 / 3).blocks
    whole = get_spec('mobilenext').blocks
    assert [row.identity_channels for row in whole if row.identity_channels] == [192] * 2 + [288] * 2 + [384] * 3 + [
        576
    ] * 3 + [960] * 2
    assert [3 * row.identity_channels for row in third] == [row.identity_channels for row in whole]
    assert {row.identity_channels for row in get_spec('mobilenext', identity_fraction=0).blocks} == {0}


@pytest.mark.parametrize(
    ('name', 'field', 'value', 'message'),
    [
        (
            'mobilenet_v3_large',
            'nonlinearity',
            'gelu',
            "nonlinearity='gelu' is unknown. Known: hard_swish, relu, swish.",
        ),
        ('mobilenet_v3_large', 'last_stage', 'none', "last_stage='none' is unknown. Known: efficient, original."),
        ('mobilenet_v3_large', 'se_gate', 'relu', "se_gate='relu' is unknown. Known: hard_sigmoid, sigmoid."),
        ('mobilenet_v3_large', 'se_reduction', -1, 'se_reduction=-1 must not be negative.'),
        ('mobilenext', 'identity_fraction', 1.5, 'identity_fraction=1.5 must be in [0, 1].'),
        ('shufflenet_v2', 'unit', 'v3', "unit='v3' is unknown. Known: megvii, torchvision."),
        ('shufflenet_v1_g3', 'channels', 'x', "channels='x' is unknown. Known: megvii, multiplied."),
    ],
)
def test_wrong_values_of_fields(name, field, value, message):
    with pytest.raises(UserError) as caught:
        get_spec(name, **{field: value})
    assert str(caught.value) == message


def test_a_field_of_another_network_is_unknown():
    with pytest.raises(UserError, match="field of mobilenet_v2='identity_fraction' is unknown"):
        get_spec('mobilenet_v2', identity_fraction=0.5)
    with pytest.raises(UserError, match="field of shufflenet_v2='rounding' is unknown"):
        get_spec('shufflenet_v2', rounding='truncate')


@pytest.mark.parametrize(
    ('name', 'convention', 'expected'),
    [
        ('mobilenet_v1', 'tf', ('same', 0.9997, 1e-3)),
        ('mobilenet_v2', 'tf', ('same', 0.997, 1e-3)),
        ('mobilenet_v2', 'paper', ('same', 0.997, 1e-3)),
        ('mobilenet_v2', 'keras', ('same', 0.999, 1e-3)),
        ('mobilenet_v2', 'torchvision', ('symmetric', 0.9, 1e-5)),
        ('mobilenet_v2', 'timm', ('symmetric', 0.9, 1e-5)),
        ('mobilenet_v3_large', 'tf', ('same', 0.997, 1e-3)),
        ('mobilenet_v3_large', 'keras', ('same', 0.999, 1e-3)),
        ('mobilenet_v3_large', 'torchvision', ('symmetric', 0.99, 1e-3)),
        ('mobilenet_v3_large', 'timm', ('symmetric', 0.9, 1e-5)),
        ('mnasnet_b1', 'tf', ('same', 0.99, 1e-3)),
        ('mnasnet_b1', 'torchvision', ('symmetric', 0.9997, 1e-5)),
        ('ghostnet', 'tf', ('same', 0.9997, 1e-3)),
        ('ghostnet', 'timm', ('symmetric', 0.9, 1e-5)),
        ('shufflenet_v2', 'megvii', ('symmetric', 0.9, 1e-5)),
        ('mobilenext', 'tf', ('symmetric', 0.9, 1e-5)),
    ],
)
def test_conventions_carry_their_constants(name, convention, expected):
    rules = get_spec(name, convention=convention).convention
    assert (rules.padding, rules.bn_momentum, rules.bn_epsilon) == expected


def test_a_field_of_the_convention_can_be_replaced():
    spec = get_spec('mobilenet_v3_large', 1.25, bn_momentum=0.99, last_channels='kept_below_one')
    assert (spec.convention.bn_momentum, spec.pre_logits) == (0.99, 1600)
    assert get_spec('mobilenet_v3_large', 1.25).pre_logits == 1280
    assert get_spec('mobilenet_v3_large', 1.25, 'model_garden').pre_logits == 1600
    assert get_spec('mobilenet_v3_small', 1.25).pre_logits == 1280
    assert get_spec('mobilenet_v3_large', 0.75).pre_logits == 1280
    assert get_spec('mobilenet_v3_large', 0.75, 'torchvision').pre_logits == 960


@pytest.mark.parametrize(
    ('name', 'removed', 'sizes'),
    [
        ('mobilenet_v1', 1, {'stem': 32, 'block02': 16, 'block13': 2}),
        ('mobilenet_v2', 2, {'stem': 32, 'block02': 32, 'block04': 16, 'C5': 4}),
    ],
)
def test_first_strides_are_removed(name, removed, sizes):
    """The strides of kuangliu/pytorch-cifar's MobileNet and MobileNetV2 at 32 pixels; the variables stay the same."""
    (_, endpoints), variables = abstract_outputs(name, image_size=32, num_removed_strides=removed)
    assert {endpoint: endpoints[endpoint].shape[1] for endpoint in sizes} == sizes
    assert abstract_outputs(name, image_size=32)[1] == variables
