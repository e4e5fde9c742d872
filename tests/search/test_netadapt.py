"""NetAdapt's proposals are those of brute force, and networks that lost channels compute what masked ones do."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.models import get_spec
from mobilenets_jax.models.found import canonical, to_text
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.scaling import ScalingConvention
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, SqueezeExciteSpec
from mobilenets_jax.search import netadapt
from mobilenets_jax.search.channels import STEM, Channels, count
from mobilenets_jax.search.latency import latency_model

MNAS_SE = SqueezeExciteSpec(relative_to='input', divisor=1, gate='sigmoid')


def row(kernel_size, expanded, out_channels, stride=1, activation='hard_swish', **fields):
    return BlockSpec(
        kernel_size=kernel_size,
        expanded=expanded,
        out_channels=out_channels,
        stride=stride,
        activation=activation,
        **fields,
    )


# Every kind of block: with and without expansion, squeeze-excite and residual.
ROWS = (
    row(3, 16, 16, squeeze_excite=SqueezeExciteSpec()),  # adds the stem's output; no expansion
    row(3, 72, 24, stride=2, activation='relu'),
    row(5, 88, 24, squeeze_excite=SqueezeExciteSpec()),  # adds
    row(5, 24, 24, squeeze_excite=MNAS_SE),  # adds; no expansion
    row(3, 64, 40),
    row(3, 80, 40, kind='dense_inverted_residual'),  # adds
    row(3, 40, 48, kind='depthwise_separable', squeeze_excite=SqueezeExciteSpec()),
    row(3, 32, 32, kind='dense_conv', squeeze_excite=SqueezeExciteSpec()),
    row(3, 96, 32, residual=False, squeeze_excite=MNAS_SE),
)
SPEC = NetworkSpec(
    stem=ConvSpec(channels=16, kernel_size=3, stride=1, activation='hard_swish'),
    blocks=ROWS,
    head_conv=ConvSpec(channels=64, activation='hard_swish'),
    pre_logits=32,
    head_activation='hard_swish',
    dropout_rate=0.0,
    convention=ScalingConvention(),
)
# By hand: the blocks, from 0, whose outputs are one group, and what is as wide as its input because it must be.
SHARED_OUTPUTS = {'block02': (1, 2, 3), 'block05': (4, 5), 'block07': (6,), 'block08': (7,), 'block09': (8,)}
AS_WIDE_AS_INPUT = (3, 6)  # but the first block, whose input is the stem's
EXPANSIONS = (1, 2, 4, 5, 8)
PIXEL = latency_model('papers_pixel1')


def milliseconds(spec):
    return PIXEL.milliseconds(spec, 32)


def brute_force(spec, saved):
    """The widest network of each group that saves so much, of all networks that differ in it."""
    found, before = {}, milliseconds(spec)
    for block in EXPANSIONS:
        inputs = spec.blocks[block - 1].out_channels
        for width in range(8, spec.blocks[block].expanded, 8):
            changed = {block: {'expanded': width}}
            if width != inputs:
                _try(found, f'block{block + 1:02d}.expanded', width, spec, changed, before - saved)
    for name, blocks in SHARED_OUTPUTS.items():
        readers = [block + 1 for block in blocks if block + 1 < len(spec.blocks)]
        for width in range(8, spec.blocks[blocks[0]].out_channels, 8):
            changed = {block: {'out_channels': width} for block in blocks}
            if any(block in EXPANSIONS and spec.blocks[block].expanded == width for block in readers):
                continue
            for block in (*readers, *blocks):
                is_dense = spec.blocks[block].kind == 'dense_conv' and block in blocks
                if is_dense or (block in readers and block in AS_WIDE_AS_INPUT):
                    changed[block] = {**changed.get(block, {}), 'expanded': width}
            _try(found, f'{name}.out_channels', width, spec, changed, before - saved)
    return found


def _try(found, name, width, spec, changed, most):
    rows = [dataclasses.replace(row, **changed.get(number, {})) for number, row in enumerate(spec.blocks)]
    latency = milliseconds(dataclasses.replace(spec, blocks=tuple(rows)))
    if latency <= most and width >= found.get(name, (0,))[0]:
        found[name] = (width, latency)


@pytest.mark.parametrize('share', [0.002, 0.02, 0.08])
def test_proposals_are_those_of_brute_force(share):
    channels = Channels(SPEC)
    saved = share * milliseconds(SPEC)
    found = netadapt.proposals(channels, channels.widths, milliseconds, saved)
    wanted = brute_force(SPEC, saved)
    assert {group: width for group, width, _ in found} == {group: width for group, (width, _) in wanted.items()}
    np.testing.assert_allclose([p.milliseconds for p in found], [wanted[p.group][1] for p in found], rtol=1e-12)
    assert 1 < len(found) <= len(EXPANSIONS) + len(SHARED_OUTPUTS)


def test_rounds_save_enough_until_nothing_does():
    """Whatever is accepted; and no width becomes that of an input, which would leave an expansion out."""
    rng, channels = np.random.default_rng(0), Channels(SPEC)
    widths, saved = channels.widths, 0.03 * milliseconds(SPEC)
    rounds = 0
    while offered := netadapt.proposals(channels, widths, milliseconds, saved):
        before = milliseconds(channels.narrowed(widths))
        assert all(before - proposal.milliseconds >= saved for proposal in offered)
        taken = offered[rng.integers(len(offered))]
        widths = {**widths, taken.group: taken.width}
        spec = channels.narrowed(widths)
        assert milliseconds(spec) == pytest.approx(taken.milliseconds, rel=1e-12)
        assert [groups.expands for groups in Channels(spec).blocks] == [groups.expands for groups in channels.blocks]
        rounds += 1
    assert 5 < rounds < 34
    assert widths[STEM] == 16


def test_groups_of_published_networks():
    """V3-Large's Table 1: 14 expansions, as the first row has none, and the widths 24, 40, 80, 112 and 160."""
    channels = Channels(get_spec('mobilenet_v3_large'))
    searched = [group for group in channels.widths if group != STEM and not group.endswith('squeezed')]
    assert sum(group.endswith('expanded') for group in searched) == 14
    shared = {group: channels.widths[group] for group in searched if group.endswith('out_channels')}
    assert list(shared.values()) == [24, 40, 80, 112, 160]
    members = [groups.outputs for groups in channels.blocks]
    assert [members.count(group) for group in shared] == [2, 3, 4, 2, 3]
    assert members.count(STEM) == 1  # the first block adds the stem's output


def test_equal_widths_add_no_residual():
    """80 channels shrink to 40 in front of a block that keeps the size: it did not add its input, and does not now."""
    channels = Channels(SPEC)
    widths = {**channels.widths, 'block05.out_channels': 24, 'block07.out_channels': 32}
    spec = channels.narrowed(widths)
    adds = [row.adds_residual(inputs) for row, inputs in zip(spec.blocks, _inputs(spec), strict=True)]
    assert adds == [True, False, True, True, False, True, False, False, False]
    rows = channels.narrowed(channels.widths).blocks
    assert [row.expanded for row in rows] == [row.expanded for row in ROWS]


def _inputs(spec):
    return [spec.stem.channels, *(row.out_channels for row in spec.blocks[:-1])]


def random_kept(channels, params, rng):
    """Some rounds of proposals taken at random."""
    kept = channels.all_kept
    for _ in range(8):
        saved = rng.uniform(0.005, 0.03) * milliseconds(SPEC)
        offered = netadapt.proposals(channels, count(kept), milliseconds, saved)
        taken = offered[rng.integers(len(offered))]
        kept = channels.strongest(params, kept, taken.group, taken.width)
    return kept


def network(spec):
    return ImageClassifier(spec, LayerSettings(dtype=jnp.dtype('float64'), bn_momentum=0.9), 5, dropout_rate=0.0)


def outcome(spec, images):
    """From parameters and statistics to logits, gradients of a loss in training, and the statistics after it."""

    def loss(params, statistics):
        variables = {'params': params, 'batch_stats': statistics}
        (logits, _), updated = network(spec).apply(variables, images, train=True, mutable=['batch_stats'])
        return (logits**2).mean(), updated['batch_stats']

    def compute(params, statistics):
        logits, _ = network(spec).apply({'params': params, 'batch_stats': statistics}, images, train=False)
        return logits, *jax.grad(loss, has_aux=True)(params, statistics)

    return jax.jit(compute)


def _check_close(trees, others):
    """To rounding errors of the largest number: some gradients, such as those in front of a batch norm, are 0."""
    atol = 1e-12 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(others))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-8, atol=atol), trees, others)


def test_sliced_network_computes_what_the_masked_one_does():
    """Its logits, its gradients, and its running statistics after a step of training."""
    with jax.enable_x64(True):
        rng, channels = np.random.default_rng(0), Channels(SPEC)
        images = jnp.asarray(rng.normal(size=(4, 8, 8, 3)))
        shapes = jax.eval_shape(functools.partial(network(SPEC).init, train=False), jax.random.key(0), images)
        variables = jax.tree.map(lambda leaf: rng.normal(0.1, 0.3, leaf.shape), shapes)
        params, statistics = variables['params'], jax.tree.map(np.abs, variables['batch_stats'])
        kept = random_kept(channels, params, rng)
        small = channels.narrowed(count(kept))
        assert count(kept) == Channels(small).widths  # also of the squeezes
        logits, gradients, updated = outcome(SPEC, images)(channels.masked(params, kept), statistics)
        of_small = outcome(small, images)(channels.sliced(params, kept), channels.sliced(statistics, kept))
        np.testing.assert_allclose(logits, of_small[0], rtol=1e-9, atol=1e-12 * np.abs(logits).max())
        _check_close((channels.sliced(gradients, kept), channels.sliced(updated, kept)), of_small[1:])
        # What is dropped gets no gradient at all, so that no optimizer moves it.
        jax.tree.map(np.testing.assert_array_equal, gradients, channels.masked(gradients, kept))


def test_strongest_channels_are_kept():
    channels = Channels(get_spec('mobilenet_v3_small').remove_first_strides(2))
    kernel = np.zeros((1, 1, 16, 72))
    kernel[0, 0, 3] = np.arange(72) % 36
    layers = [layer for layer in channels.layers if layer.writes == 'block02.expanded' and not layer.depthwise]
    assert [layer.path for layer in layers] == ['backbone/block02/expand']
    params = {'backbone': {'block02': {'expand': {'conv': {'kernel': kernel}}}}}
    kept = channels.strongest(params, channels.all_kept, 'block02.expanded', 8)
    assert np.flatnonzero(kept['block02.expanded']).tolist() == [32, 33, 34, 35, 68, 69, 70, 71]
    again = channels.strongest(params, kept, 'block02.expanded', 3)
    assert np.flatnonzero(again['block02.expanded']).tolist() == [34, 35, 71]  # the first of equals


def test_choice_is_by_accuracy_for_each_millisecond():
    """Less accuracy is lost by the first; the second loses less for what it saves; the third learnt nothing."""
    tried = [
        {'accuracy': 69.0, 'milliseconds': 9.5},
        {'accuracy': 68.5, 'milliseconds': 9.0},
        {'accuracy': None, 'milliseconds': 5.0},
    ]
    assert netadapt.best_of(tried, (70.0, 10.0)) == 1
    assert netadapt.ratio(68.5, 9.0, (70.0, 10.0)) == -1.5
    assert netadapt.best_of(tried[2:], (70.0, 10.0)) is None
    assert netadapt.best_of([*tried, {'accuracy': 70.1, 'milliseconds': 9.9}], (70.0, 10.0)) == 3


def test_found_table_has_the_strides_of_the_published_one():
    table = get_spec('mobilenet_v3_small', convention='torchvision')
    channels = Channels(table.remove_first_strides(2))
    widths = {**channels.widths, 'block09.out_channels': 64}
    found = netadapt.as_table(netadapt.with_strides(channels.narrowed(widths), table))
    assert [row.stride for row in found.blocks] == [row.stride for row in table.blocks] and found.stem.stride == 2
    text = to_text('found', found)
    assert canonical(text, 'found.json') == ('found', text)  # its convention keeps the widths
    assert math.prod(row.stride for row in found.remove_first_strides(2).blocks) == 8
