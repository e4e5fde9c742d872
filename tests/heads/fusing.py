"""What fusing must not change, of any network with a head."""

import jax
import jax.numpy as jnp
import numpy as np

from mobilenets_jax.ops import fuse


def check_fused_is_layer_by_layer(module, variables, inputs):
    """Outputs, updated statistics, and the gradients of parameters and inputs, to 1e-9; all float64.

    Args:
        module: whose call returns (outputs, anything).
        variables: 'params' and 'batch_stats'.
        inputs: of the call.
    """

    def evaluate(variables, inputs):
        return module.apply(variables, inputs, train=False)[0]

    def train(params, inputs):
        applied = module.apply({**variables, 'params': params}, inputs, train=True, mutable=['batch_stats'])
        (outputs, _), updated = applied
        return outputs, updated['batch_stats']

    def gradients(train):
        def loss(params, inputs):
            outputs, statistics = train(params, inputs)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(outputs)), statistics

        return jax.grad(loss, argnums=(0, 1), has_aux=True)

    pairs = [
        (fuse(evaluate), evaluate, (variables, inputs)),
        (gradients(fuse(train)), gradients(train), (variables['params'], inputs)),
    ]
    for fused, apart, arrays in pairs:
        ours, expected = (jax.jit(function)(*arrays) for function in (fused, apart))
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            assert np.max(np.abs(one - other)) <= 1e-9 * np.max(np.abs(other)) + 1e-9
