"""The update rules against TensorFlow's own kernel, optax, and arithmetic done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.training.optimizers import WeightDecayOptions, create_optimizer
from mobilenets_jax.training.schedules import create_schedule

STEPS = 60
PARAMS = {
    'block': {'conv': {'kernel': jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)}, 'bn': {'scale': jnp.ones(4)}},
    'logits': {'kernel': jnp.full((4, 2), 0.5), 'bias': jnp.full(2, 0.25)},
}


def decaying_rate(step):
    return 0.1 * 0.97**step


def run(optimizer, params, grads):
    """Applies one update per row of `grads` and returns the parameters after each."""
    state, history = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for grad in grads:
        updates, state = update(grad, state, params)
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history


def test_rmsprop_is_tensorflows():
    tf = pytest.importorskip('tensorflow')
    grads = np.random.default_rng(0).normal(size=(STEPS, 50)).astype(np.float32)
    start = np.linspace(-1, 1, 50, dtype=np.float32)
    ours = run(create_optimizer('rmsprop', decaying_rate, epsilon=2e-3), jnp.asarray(start), grads)

    variable, mean_square, momentum = tf.Variable(start), tf.Variable(tf.ones(50)), tf.Variable(tf.zeros(50))
    for step, grad in enumerate(grads):
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=mean_square.handle,
            mom=momentum.handle,
            lr=np.float32(decaying_rate(step)),
            rho=np.float32(0.9),
            momentum=np.float32(0.9),
            epsilon=np.float32(2e-3),
            grad=grad,
        )
        travelled = np.abs(variable.numpy() - start).max()
        np.testing.assert_allclose(ours[step], variable.numpy(), atol=2e-6 * travelled)


def test_rmsprop_first_step_by_hand():
    # The mean square starts at 1: 0.9 * 1 + 0.1 * 4 = 1.3, so the step is 0.1 * 2 / sqrt(1.3 + 0.1).
    optimizer = create_optimizer('rmsprop', lambda step: 0.1, epsilon=0.1)
    (params,) = run(optimizer, jnp.array([1.0]), [jnp.array([2.0])])
    np.testing.assert_allclose(params, 1 - 0.1 * 2 / np.sqrt(1.4), rtol=1e-6)


def test_sgd_accumulates_momentum():
    optimizer = create_optimizer('sgd', lambda step: 0.1, momentum=0.5)
    history = run(optimizer, jnp.array([0.0]), [jnp.array([1.0])] * 3)
    np.testing.assert_allclose(np.ravel(history), [-0.1, -0.25, -0.425], rtol=1e-6)


def test_adamw_is_optax_adamw_with_the_mask():
    options = WeightDecayOptions(rate=0.1, decoupled=True, skip=('/bn/', 'bias$'))
    grads = [jax.tree.map(lambda x, i=i: jnp.cos(x + i), PARAMS) for i in range(5)]
    ours = run(create_optimizer('adamw', decaying_rate, epsilon=1e-8, weight_decay=options), PARAMS, grads)
    reference = optax.adamw(decaying_rate, weight_decay=0.1, mask=options.mask)
    for mine, theirs in zip(ours, run(reference, PARAMS, grads), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), mine, theirs)


@pytest.mark.parametrize('rate', [0.0, 0.1])
def test_lamb_is_optax_lamb_with_the_mask(rate):
    options = WeightDecayOptions(rate=rate, decoupled=True, skip=('/bn/', 'bias$'))
    grads = [jax.tree.map(lambda x, i=i: jnp.cos(x + i), PARAMS) for i in range(5)]
    ours = run(create_optimizer('lamb', decaying_rate, epsilon=1e-6, weight_decay=options), PARAMS, grads)
    reference = optax.lamb(decaying_rate, eps=1e-6, weight_decay=rate, mask=options.mask)
    for mine, theirs in zip(ours, run(reference, PARAMS, grads), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), mine, theirs)


def test_lamb_first_step_by_hand():
    """The first update of Adam is the sign; with 0.5 * w it has the norm of (2.5, 1), and gets that of w, (3, 0)."""
    options = WeightDecayOptions(rate=0.5, decoupled=True)
    optimizer = create_optimizer('lamb', lambda step: 0.1, epsilon=1e-9, weight_decay=options)
    (params,) = run(optimizer, jnp.array([3.0, 0.0]), [jnp.array([7.0, 0.2])])
    norm = np.hypot(2.5, 1.0)
    np.testing.assert_allclose(params, [3 - 0.1 * 3 * 2.5 / norm, -0.1 * 3 * 1.0 / norm], rtol=1e-5)


def test_decoupled_decay_of_rmsprop_bypasses_the_momentum():
    options = WeightDecayOptions(rate=0.5, decoupled=True)
    optimizer = create_optimizer('rmsprop', lambda step: 0.1, weight_decay=options)
    history = run(optimizer, jnp.array([1.0]), [jnp.array([0.0])] * 3)
    np.testing.assert_allclose(np.ravel(history), [0.95, 0.95**2, 0.95**3], rtol=1e-6)


def test_clipping_scales_the_global_norm():
    optimizer = create_optimizer('sgd', lambda step: 1.0, momentum=0.0, clip_norm=1.0)
    (params,) = run(
        optimizer, {'a': jnp.array([0.0]), 'b': jnp.array([0.0])}, [{'a': jnp.array([3.0]), 'b': jnp.array([4.0])}]
    )
    np.testing.assert_allclose([params['a'][0], params['b'][0]], [-0.6, -0.8], rtol=1e-6)


def test_l2_loss_is_half_the_square_of_what_is_not_skipped():
    options = WeightDecayOptions(rate=0.1, skip=('/bn/', 'bias$'))
    grads = jax.grad(options.l2_loss)(PARAMS)
    np.testing.assert_allclose(grads['block']['conv']['kernel'], 0.1 * PARAMS['block']['conv']['kernel'], rtol=1e-6)
    np.testing.assert_allclose(grads['logits']['kernel'], 0.05)
    assert not grads['block']['bn']['scale'].any() and not grads['logits']['bias'].any()
    kernel = float(jnp.square(PARAMS['block']['conv']['kernel']).sum())
    assert float(options.l2_loss(PARAMS)) == pytest.approx(0.05 * (kernel + 8 * 0.25))


def test_decoupled_decay_is_no_loss_term():
    assert float(WeightDecayOptions(rate=0.1, decoupled=True).l2_loss(PARAMS)) == 0.0


def test_description_counts_what_each_pattern_skips():
    options = WeightDecayOptions(rate=1e-5, skip=('/bn/', 'depthwise'))
    assert options.describe(PARAMS).splitlines() == [
        'weight decay 1e-05 (L2 in the loss) on 3 of 4 arrays; skipped:',
        "  '/bn/': 1 arrays, e.g. block/bn/scale",
        "  'depthwise': 0 arrays",
    ]


def test_unknown_optimizer_names_the_known_ones():
    with pytest.raises(UserError, match=r"optimizer.name='rms' is unknown. Known: adamw, lamb, rmsprop, sgd."):
        create_optimizer('rms', create_schedule('constant', learning_rate=0.1, total_steps=1))


def test_bad_pattern_is_named():
    with pytest.raises(UserError, match=r"weight_decay.skip='\(' is no regular expression"):
        WeightDecayOptions(rate=0.1, skip=('(',))
