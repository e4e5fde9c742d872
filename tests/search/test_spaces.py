"""The spaces have the papers' sizes, and their networks are points of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_points import MNASNET_A1, MNASNET_B1, mnasnet_options, v3_options

from mobilenets_jax.errors import UserError
from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.models.found import canonical, to_text
from mobilenets_jax.models.scaling import scale
from mobilenets_jax.report.counts import count_model
from mobilenets_jax.search import proxylessnas_mobile
from mobilenets_jax.search.space import Choice, Space
from mobilenets_jax.search.spaces import SPACES, get_space


def test_mnasnet_has_432_options_a_block():
    """'The total search space size is 432^5' for five blocks (1807.11626 section 4.1); MobileNetV2 has seven."""
    space = get_space('mnasnet')
    blocks = [[c for c in space.choices if c.name.startswith(f'block{number}/')] for number in range(1, 8)]
    assert [np.prod([len(choice.options) for choice in block]) for block in blocks] == [432] * 7
    assert space.size == 432**7


def test_sizes_that_tunas_prints():
    """2008.06120 Table 1: 10^21 and 10^43, every choice by itself."""
    assert get_space('proxylessnas').size == 3 * 6**6 * 12**15
    assert f'{get_space("proxylessnas").size:.0e}' == '2e+21'
    # A skipped layer has neither kernel nor expansion.
    assert get_space('proxylessnas').num_networks == 3 * 6**6 * 7**15
    assert f'{get_space("tunas_v3").size:.0e}' == '8e+42'


def test_number_of_networks_that_once_for_all_prints():
    """'((3 x 3)^2 + (3 x 3)^3 + (3 x 3)^4)^5, roughly 2 x 10^19' (1908.09791 section 4.1)."""
    assert get_space('once_for_all').num_networks == (9**2 + 9**3 + 9**4) ** 5


@pytest.mark.parametrize(
    ('space', 'options', 'published'),
    [
        ('mnasnet', mnasnet_options(MNASNET_A1), 'mnasnet_a1'),
        ('mnasnet', mnasnet_options(MNASNET_B1), 'mnasnet_b1'),
        ('mobilenet_v3_large', v3_options('mobilenet_v3_large'), 'mobilenet_v3_large'),
        ('mobilenet_v3_small', v3_options('mobilenet_v3_small'), 'mobilenet_v3_small'),
    ],
)
def test_published_network_is_a_point(space, options, published):
    space = get_space(space)
    decisions = space.decisions(options)
    assert space.spec(decisions) == get_spec(published)
    assert {name: space.options(decisions)[name] for name in options} == options


def test_proxylessnas_mobile_is_a_point():
    """320M multiply-adds (1812.00332 Table 2) and 4.0M parameters (1905.02244 Table 3)."""
    space = get_space('proxylessnas')
    spec = space.spec(space.decisions(proxylessnas_mobile.options()))
    counts = count_model('found', table=to_text('found', spec))
    assert round(counts.madds / 1e6) == 320
    assert round((counts.params - counts.norm_params) / 1e6, 1) == 4.0


@pytest.mark.parametrize('name', SPACES)
def test_every_point_is_a_network_that_a_file_can_hold(name):
    """The network runs, in shapes, and choices that are not in force change nothing of it."""
    space, rng = get_space(name), np.random.default_rng(0)
    for decisions in space.sample(rng, 20):
        spec = space.spec(decisions)
        other = np.where(space.in_force(decisions), decisions, rng.integers(0, space.num_options))
        assert space.spec(other) == spec
    model = create_model('found', 10, table=to_text('found', spec))
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    logits, _ = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0], images)
    assert logits.shape == (1, 10)


def test_decisions_of_devices_are_in_force_as_those_of_the_host():
    space = get_space('once_for_all')
    decisions = space.sample(np.random.default_rng(1), 50)
    in_force = space.in_force(decisions)
    assert not in_force.all() and in_force[:, :5].all()
    np.testing.assert_array_equal(jax.jit(space.in_force)(decisions), in_force)
    depth = decisions[:, :5] + 2
    np.testing.assert_array_equal(in_force[:, 5:].sum(axis=1), 2 * depth.sum(axis=1))


def test_samples_are_uniform():
    space = get_space('once_for_all')
    counts = np.stack([(space.sample(np.random.default_rng(2), 3000) == option).sum(axis=0) for option in range(3)])
    assert np.abs(counts - 1000).max() < 150  # six deviations


def test_wrong_options_are_refused():
    space = get_space('proxylessnas')
    with pytest.raises(UserError, match="^choice of proxylessnas='layer1/kernel' is unknown. Known: .*layer01/kernel"):
        space.decisions({'layer1/kernel': 3})
    with pytest.raises(UserError, match='^layer01/kernel=9 is unknown. Known: 3, 5, 7'):
        space.decisions({'layer01/kernel': 9})
    with pytest.raises(UserError, match='^layer02/kernel of proxylessnas is missing'):
        space.decisions({'layer01/kernel': 3})
    for wrong in ([0] * 57, [0] * 57 + [9], [-1] + [0] * 57):
        with pytest.raises(UserError, match='^decisions of proxylessnas=.* must be 58 option numbers'):
            space.spec(wrong)
    with pytest.raises(UserError, match='^search.space=.darts. is unknown. Known: mnasnet, '):
        get_space('darts')
    chain = (
        Choice(name='a', options=(0, 1)),
        Choice(name='b', options=(0, 1), needs=('a', (1,))),
        Choice(name='c', options=(0, 1), needs=('b', (1,))),
    )
    with pytest.raises(UserError, match='^c of chain='):
        Space(name='chain', choices=chain, build=lambda options: None)


@pytest.mark.parametrize('width', [0.25, 0.35, 1.4])
def test_networks_of_mnasnets_space_are_tables_at_every_width(width):
    """Also those with dense convolutions, which have no middle: its column is as wide as the output."""
    space = get_space('mnasnet')
    for decisions in space.sample(np.random.default_rng(0), 20):
        table = space.spec(decisions)
        spec = scale(table, width, table.convention)
        text = to_text('scaled', spec)
        assert canonical(text, 'scaled') == ('scaled', text)
