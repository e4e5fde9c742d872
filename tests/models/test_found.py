"""A network whose table is a file is used like any other, or refused in one line."""

import functools
import json

import jax
import numpy as np
import pytest
from model_cases import abstract_outputs, random_variables

from mobilenets_jax.errors import UserError
from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.models.blocks import BLOCKS
from mobilenets_jax.models.found import BLOCK_NAMES, architecture_of, canonical, to_text

ONE_A_KIND = ('mobilenet_v1', 'mobilenet_edgetpu', 'mobilenet_v3_small', 'mnasnet_a1')
# The convolution of MnasNet's space, with all that a row can have.
DENSE = {
    'name': 'dense',
    'stem': {'channels': 8, 'kernel_size': 3, 'stride': 2, 'activation': 'relu'},
    'blocks': [
        {'kind': 'dense_conv', 'kernel_size': 5, 'expanded': 16, 'out_channels': 16, 'activation': 'relu', 'stride': 2},
        {
            'kind': 'dense_conv',
            'kernel_size': 3,
            'expanded': 16,
            'out_channels': 16,
            'activation': 'linear',
            'stride': 1,
            'squeeze_excite': {'reduction': 4, 'relative_to': 'input', 'divisor': 1, 'gate': 'sigmoid'},
            'residual_pool': True,
        },
    ],
    'dropout_rate': 0.0,
    'convention': {},
}


def refusal(**changes) -> str:
    with pytest.raises(UserError) as caught:
        architecture_of(json.dumps(DENSE | changes), "model.spec_file='f.json'")
    (line,) = str(caught.value).splitlines()
    return line.removeprefix("model.spec_file='f.json'")


def row(**changes):
    return {'blocks': [DENSE['blocks'][0], DENSE['blocks'][1] | changes]}


@pytest.mark.parametrize('name', ONE_A_KIND)
def test_text_of_a_published_network_is_that_network_at_every_width(name):
    text = to_text('found', get_spec(name))
    for width in (1.0, 0.5):
        published, found = get_spec(name, width), get_spec('found', width, table=text)
        assert (found.stem, found.blocks, found.head_conv) == (published.stem, published.blocks, published.head_conv)
        assert (found.pre_logits, found.dropout_rate) == (published.pre_logits, published.dropout_rate)
    own, of_text = abstract_outputs(name, 64), abstract_outputs('found', 64, table=text)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), outputs) for outputs in (own, of_text)]
    assert shapes[0] == shapes[1]


def test_fields_of_a_published_network_mean_the_same_for_one_of_a_file():
    text = to_text('found', get_spec('mobilenet_v2'))
    fields = {'padding': 'symmetric', 'bn_epsilon': 1e-5, 'activation': 'relu', 'divisor': 16}
    found, published = get_spec('found', 0.75, table=text, **fields), get_spec('mobilenet_v2', 0.75, **fields)
    assert found == published


def test_equal_tables_have_one_text_however_they_are_written():
    name, text = canonical(json.dumps(DENSE, indent=3), 'f.json')
    assert name == 'dense' and canonical(text, 'f.json') == (name, text)
    spelled_out = json.dumps({**DENSE, 'convention': {'divisor': 8}, 'stem_pool': False})
    assert canonical(spelled_out, 'g.json') == (name, text)


def test_the_dense_convolution_of_a_searched_space_computes_what_its_row_says():
    """In NumPy: two convolutions by their definition, squeeze-excite, and the mean of 3x3 pixels as the residual."""
    text = canonical(json.dumps(DENSE), '')[1]
    model = create_model('dense', 3, table=text, bn_epsilon=1e-12)
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    variables = random_variables(model, 8)
    variables['batch_stats'] = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, path[-1].key == 'var', leaf.dtype), variables['batch_stats']
    )
    block = variables['params']['backbone']['block02']
    block['spatial']['bn'] = {'scale': np.ones(16, np.float32), 'bias': np.zeros(16, np.float32)}
    for layer in block['se'].values():
        layer['bias'] = np.zeros_like(layer['bias'])
    apply = functools.partial(model.apply, train=False)
    _, endpoints = jax.jit(apply)(variables, images)
    assert set(block) == {'spatial', 'se'} and set(block['spatial']) == {'conv', 'bn'}
    x = np.pad(np.asarray(endpoints['block01']), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))  # N, H, W, C, 3, 3
    y = np.einsum('nhwcij,ijco->nhwo', windows, block['spatial']['conv']['kernel'])
    gate = np.maximum(y.mean((1, 2)) @ block['se']['reduce']['kernel'], 0) @ block['se']['expand']['kernel']
    assert block['se']['reduce']['kernel'].shape == (16, 4)  # a quarter of the input
    y = y / (1 + np.exp(-gate))[:, None, None] + windows.mean((4, 5))
    np.testing.assert_allclose(endpoints['block02'], y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'name': ''}, ": name='' must be a string, which names the network."),
        ({'blocks': []}, ': blocks=[] must have a row at least.'),
        ({'blocks': 3}, ': blocks=3 must be a list.'),
        ({'stem': None}, ': stem=None must be an object.'),
        ({'convention': None}, ': convention=None must be an object.'),
        ({'dropout_rate': '0.2'}, ": dropout_rate='0.2' must be a number."),
        ({'dropout_rate': float('nan')}, ': dropout_rate=nan must be finite.'),
        ({'pre_logits': 8}, ': pre_logits=8 needs a head_conv.'),
        (row(kernel_size=4), ': blocks[1].kernel_size=4 must be odd.'),
        (row(kernel_size=True), ': blocks[1].kernel_size=True must be an integer.'),
        (row(out_channels=0), ': blocks[1].out_channels=0 must be positive.'),
        (row(stride=3), ': blocks[1].stride=3 is unknown. Known: 1, 2.'),
        (row(expanded=24), ": blocks[1].expanded=24 must be 16 in a block of the kind 'dense_conv'."),
        (
            row(expanded=20, out_channels=20),
            ': blocks[1].expanded=20 would become 24 by its convention, with divisor=8; give it a convention that '
            'keeps its widths.',
        ),
        (
            row(kind='dense_inverted_residual'),
            ": blocks[1].squeeze_excite={'reduction': 4, 'relative_to': 'input', 'divisor': 1, 'gate': 'sigmoid'} has "
            "no effect in a block of the kind 'dense_inverted_residual'.",
        ),
        (
            row(kind='dense_inverted_residual', squeeze_excite=None, stride=2),
            ": blocks[1].stride=2 has no effect in a block of the kind 'dense_inverted_residual' without expansion.",
        ),
        (
            row(kind='depthwise_separable'),
            ": blocks[1].residual_pool=True has no effect in a block of the kind 'depthwise_separable'.",
        ),
        ({'convention': {'bn_momentum': 1.0}}, ': convention.bn_momentum=1.0 must be in [0, 1).'),
        ({'convention': {'padding': 'valid'}}, ": convention.padding='valid' is unknown. Known: same, symmetric."),
    ],
)
def test_wrong_table_is_refused_in_one_line(changes, line):
    assert refusal(**changes) == line


def test_wrong_names_are_refused_with_the_known_ones():
    known = 'activation, expanded, kernel_size, kind, out_channels, residual, residual_pool, squeeze_excite, stride'
    assert refusal(**row(kernal_size=3)) == (
        f": field of blocks[1]='kernal_size' is unknown. Known: {known}. Did you mean 'kernel_size'?"
    )
    assert refusal(**row(kind='ghost_bottleneck')).endswith(f'Known: {", ".join(BLOCK_NAMES)}.')
    assert set(BLOCK_NAMES) < set(BLOCKS)
    assert refusal(**row(activation='gelu')).startswith(": blocks[1].activation='gelu' is unknown. Known: ")
    missing = {name: value for name, value in DENSE.items() if name != 'stem'}
    with pytest.raises(UserError, match=r'^f\.json: stem=None is missing\.$'):
        architecture_of(json.dumps(missing), 'f.json')
    with pytest.raises(UserError, match=r"^f\.json: fields=\['name', 'name'\] must be named once each\.$"):
        architecture_of('{"name": "a", "name": "b"}', 'f.json')
    for text in ('[1]', '"a"'):
        with pytest.raises(UserError, match=r'^f\.json holds no table'):
            architecture_of(text, 'f.json')
    with pytest.raises(UserError, match=r'^f\.json is no JSON: Expecting'):
        architecture_of('{', 'f.json')


def test_networks_with_rows_of_their_own_have_no_text():
    for name in ('mobilenext', 'resnet50'):
        with pytest.raises(UserError, match=f"^model.name='{name}' has rows of its own family"):
            to_text(name, get_spec(name))


def test_name_and_convention_are_those_of_the_table():
    text = to_text('found', get_spec('mobilenet_v3_small'))
    with pytest.raises(UserError, match="^model.name='mobilenet_v2' is not the network of model.table, which is 'fou"):
        create_model('mobilenet_v2', table=text)
    with pytest.raises(UserError, match="^convention of found='keras' is unknown. Known: paper, tf"):
        create_model('found', convention='keras', table=text)
    with pytest.raises(UserError, match="^model.tail='detection' is no tail of found"):
        create_model('found', tail='detection', table=text)
