"""A super-network under a mask is the sub-network as a network of its own, and nothing leaks into what is masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_space import tiny_space

from mobilenets_jax.errors import UserError
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.search.masks import masked, sliced
from mobilenets_jax.search.spaces import get_space
from mobilenets_jax.search.super_network import SuperNetwork
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.trees import named_leaves

CLASSES, SIZE = 5, 32


@pytest.fixture
def doubles():
    with jax.enable_x64(True):
        yield


def classifier(spec, dtype='float64'):
    return ImageClassifier(spec, LayerSettings(dtype=jnp.dtype(dtype), bn_momentum=0.9), CLASSES, 0.0)


def shapes(spec, dtype='float64'):
    images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.dtype(dtype))
    return jax.eval_shape(lambda x: classifier(spec, dtype).init(jax.random.key(0), x, train=False), images)


def random_tree(tree, rng):
    """Weights of about the size of trained ones; all biases differ from 0 and all scales from 1."""

    def draw(path, leaf):
        values, name = rng.normal(size=leaf.shape), path[-1].key
        if name == 'kernel':
            return values * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return np.exp(0.3 * values) if name in ('var', 'scale') else 0.3 * values

    return jax.tree_util.tree_map_with_path(lambda *pair: draw(*pair).astype(pair[1].dtype), tree)


def losses(spec, images, labels, dtype='float64'):
    """Evaluation's logits, and the training loss with its gradient, as users compile them."""
    model = classifier(spec, dtype)
    task = ClassificationTask(model=model, preprocess=lambda batch, train: batch['image'])

    def evaluate(params, batch_stats):
        return model.apply({'params': params, 'batch_stats': batch_stats}, images, train=False)[0]

    def loss(params, batch_stats):
        batch = {'image': images, 'label': labels}
        value, (updated, _) = task.loss(params, batch_stats, batch, jax.random.key(0))
        return value, updated

    return evaluate, loss


def compare(super_network, decisions, tolerance, dtype='float64'):
    """The super-network under masks that are arguments, and the sub-networks: the largest relative difference."""
    rng = np.random.default_rng(3)
    images = jnp.asarray(rng.normal(size=(6, SIZE, SIZE, 3)), dtype)
    labels = jnp.asarray(rng.integers(0, CLASSES, 6))
    variables = random_tree(shapes(super_network.spec, dtype), rng)
    params, batch_stats = variables['params'], variables['batch_stats']
    evaluate, loss = losses(super_network.spec, images, labels, dtype)

    def large(params, sizes):
        def masked_loss(params):
            return loss(masked(params, sizes), batch_stats)

        return evaluate(masked(params, sizes), batch_stats), jax.value_and_grad(masked_loss, has_aux=True)(params)

    compiled = jax.jit(large)
    for decided in decisions:
        sizes = super_network.sizes(decided)
        logits, ((value, statistics), gradient) = compiled(params, sizes)
        small = losses(super_network.network(decided), images, labels, dtype)

        def alone(params, batch_stats, small=small):
            return small[0](params, batch_stats), jax.value_and_grad(small[1], has_aux=True)(params, batch_stats)

        parts = sliced(variables, sizes)
        arguments = parts['params'], parts['batch_stats']
        wanted = jax.jit(alone)(*arguments)
        found = logits, ((value, sliced(statistics, sizes)), sliced(gradient, sizes))
        for (name, one), other in zip(named_leaves(found).items(), named_leaves(wanted).values(), strict=True):
            one, other = np.asarray(one), np.asarray(other)
            assert np.abs(one - other).max() <= tolerance * max(1.0, np.abs(other).max()), (name, decided)
        # Every entry of the gradient that is not the sub-network's is 0, exactly.
        kept = sum(leaf.size for leaf in jax.tree.leaves(parts['params']))
        assert sum(np.count_nonzero(leaf) for leaf in jax.tree.leaves(gradient)) <= kept
        total = sum(np.abs(np.asarray(leaf)).sum() for leaf in jax.tree.leaves(gradient))
        own = sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(sliced(gradient, sizes)))
        np.testing.assert_allclose(total, own, rtol=1e-12 if dtype == 'float64' else 1e-5)


def test_masked_is_sliced_in_double_precision(doubles):
    """Random decisions, so that each of kernel, expansion, width, squeeze-excite, skip, stem and head is decided."""
    space = tiny_space()
    decisions = space.sample(np.random.default_rng(5), 4)
    chosen = [space.options(decided) for decided in decisions]
    for part in ('skip', 'se'):  # the draw has both of each
        assert {options[name] for options in chosen for name in options if name.endswith(part)} == {False, True}
    compare(SuperNetwork(space), decisions, 1e-12)


def test_a_residual_that_begins_by_chance_is_left_out():
    """The third stage has no stride: it is as wide as the second one in some networks, never in the largest."""
    super_network = SuperNetwork(tiny_space())
    options = super_network.space.options(super_network.largest) | {'stage2/channels': 16, 'stage3/channels': 16}
    last = super_network.network(super_network.space.decisions(options)).blocks[-1]
    assert last.out_channels == 16 and not last.residual and not last.adds_residual(16)
    assert super_network.network(super_network.largest).blocks[-1].residual


@pytest.mark.parametrize(
    ('name', 'rules'),
    [('proxylessnas', ()), ('once_for_all', ()), ('tunas_v3', (('/expand$', (2, 3, 4, 5, 6)),))],
)
def test_networks_of_the_papers_spaces_are_parts_of_the_largest_one(name, rules):
    """Slicing leaves exactly the arrays that the network by itself has."""
    space = get_space(name).restricted(rules)
    super_network = SuperNetwork(space)
    # No memory: all entries are one.
    variables = jax.tree.map(lambda leaf: np.broadcast_to(0.0, leaf.shape), shapes(super_network.spec, 'float32'))
    decisions = space.sample(np.random.default_rng(2), 1)[0]
    found = named_leaves(sliced(variables, super_network.sizes(decisions)))
    wanted = named_leaves(shapes(super_network.network(decisions), 'float32'))
    assert {name: leaf.shape for name, leaf in found.items()} == {name: leaf.shape for name, leaf in wanted.items()}
    assert len(wanted) < len(named_leaves(variables))


def test_spaces_whose_networks_are_no_parts_are_refused():
    with pytest.raises(UserError, match='^search.space=.mnasnet. has networks that cannot share weights'):
        SuperNetwork(get_space('mnasnet'))
    with pytest.raises(UserError) as caught:
        SuperNetwork(get_space('tunas_v3'))
    assert str(caught.value) == (
        "search.space='tunas_v3': its networks cannot share weights: with layer02/expand=1 row 2 has no expansion. "
        'search.options can leave options out.'
    )
    space = get_space('mobilenet_v3_small').restricted((('layer1./expanded', (192,)), ('/expanded', (96,))))
    with pytest.raises(UserError, match="with layer01/activation='hard_swish' row 1 has another activation"):
        SuperNetwork(space)


def test_restricted_spaces():
    space = get_space('tunas_v3').restricted((('layer02/expand', (6, 3)), ('/expand$', (6,))))
    assert {choice.options for choice in space.choices if choice.name.endswith('/expand')} == {(3, 6), (6,)}
    assert space.options(space.decisions(space.options([0] * len(space.choices))))['layer03/expand'] == 6
    for rules, message in (
        ((('/expand$', (7,)),), r'^search.options: layer02/expand=7 is unknown. Known: 3, 6'),
        ((('/expanded', (3,)),), r"^search.options='/expanded' is found in no choice of tunas_v3; one is stem/kernel"),
        ((('(', (3,)),), r"^search.options='\(' is no regular expression"),
        ((('/expand$', ()),), r'^search.options=\(.*\) is no pair of a pattern and options'),
        (('/expand$',), r"^search.options='/expand\$' is no pair of a pattern and options"),
    ):
        with pytest.raises(UserError, match=message):
            space.restricted(rules)
