"""Networks that round weights and activations as 8 bit arithmetic does, so that they learn to live with it.

Everything stays in floating point, but takes the 256 values only that a quantized file has: "fake" quantization. The
networks' own code does not change: kernels are rounded before a network is applied, and activations by an
interceptor of its modules. The gradient passes through the rounding as if there were none, and stops where a value is
cut off.

Paper: Jacob et al., 1712.05877, section 3; Krishnamoorthi, 1806.08342.
Differs: kernels are not folded with their batch norms before they are rounded, since it comes to the same: by a factor
    of an output channel the channel's scale changes by as much, and what it is rounded to. So batch norms run as they
    are, by the statistics of the batch until they are frozen.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from mobilenets_jax.models.blocks import Block
from mobilenets_jax.models.layers import BatchNorm
from mobilenets_jax.models.squeeze_excite import SqueezeExcite
from mobilenets_jax.ops import ACTIVATIONS

PyTree = Any
Visit = Callable[[str, jax.Array], jax.Array]  # what becomes of the activations at a point of the network, by its name

QUANTIZATION = 'int8'  # in the identity of a checkpoint
STATISTICS = 'quantization'  # the ranges in a state: part of the running statistics, and averaged with them
STEPS = 255  # between the least and the largest of 256 values
LARGEST_WEIGHT = 127  # weights are symmetric: -128 is not used
FUSED_ACTIVATIONS = ('linear', 'relu', 'relu6')  # quantized files have no values between these and what is before them


def fake_quantize(values: jax.Array, low: jax.Array | float, high: jax.Array | float) -> jax.Array:
    """Rounds activations to 256 values from `low` to `high`, widened and shifted so that 0 is one of them.

    Args:
        values: floating point, any shape.
        low: of the range, a scalar.
        high: of the range, a scalar.

    Returns:
        The rounded values, of the dtype of `values`. Their gradient is 1 inside the range and 0 outside.
    """
    low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
    scale = jnp.where(high > low, (high - low) / STEPS, 1)
    zero = jnp.round(-low / scale)
    least, largest = (-zero * scale).astype(values.dtype), ((STEPS - zero) * scale).astype(values.dtype)
    rounded = (jnp.clip(jnp.round(values / scale), -zero, STEPS - zero) * scale).astype(values.dtype)
    inside = (values >= least) & (values <= largest)
    return lax.stop_gradient(rounded) + jnp.where(inside, values - lax.stop_gradient(values), 0)


def fake_quantize_kernel(kernel: jax.Array) -> jax.Array:
    """Rounds the weights of each output channel, the last axis, to 255 values around 0; the gradient is 1."""
    largest = jnp.abs(kernel).max(axis=range(kernel.ndim - 1), keepdims=True)
    scale = jnp.where(largest > 0, largest / LARGEST_WEIGHT, 1)
    return kernel + lax.stop_gradient(jnp.round(kernel / scale) * scale - kernel)


class Phases(NamedTuple):
    """When a network that trains is quantized, in batches of a device.

    Attributes:
        delay: how many pass before anything is rounded; the ranges are updated from the first one on.
        freeze: after so many the batch norms normalise by their running statistics, and these and the ranges stay as
            they are; None: never.
    """

    delay: int
    freeze: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FakeQuantized:
    """A network with the call contract of `mobilenets_jax.models` that computes as in 8 bit.

    Its running statistics have a part more, `STATISTICS`: 'ranges', (least, largest value) of the activations at each
    point, [2]; and 'count', how many batches they have followed, a float as all statistics.

    Attributes:
        model: the network.
        input_range: the least and the largest value of its input.
        range_momentum: decay of the ranges in training: each batch brings its own.
        phases: asked for when it is trained, since evaluation needs no lengths.
        axis_name: the mapped axis over which a batch is spread, of which a range is that of all devices; or None.
    """

    model: nn.Module
    input_range: tuple[float, float]
    range_momentum: float
    phases: Callable[[], Phases]
    axis_name: str | None

    def init(self, key: jax.Array, images: jax.Array, *, train: bool) -> dict[str, PyTree]:
        """The network's variables, with ranges of 0 that wait to be `calibrated`."""
        variables = self.model.init(key, images, train=train)
        points = jax.eval_shape(functools.partial(activations, self.model), variables, images)
        ranges = {name: jnp.zeros(2, jnp.float32) for name in points}
        return {**variables, 'batch_stats': _with_ranges(variables.get('batch_stats', {}), ranges)}

    def calibrated(self, variables: Mapping[str, PyTree], images: jax.Array) -> PyTree:
        """Running statistics whose ranges are those that the activations have of some images, without any rounding.

        Args:
            variables: 'params' and 'batch_stats' of the network.
            images: normalised, float [n, H, W, 3].
        """

        @jax.jit
        def ranges(variables: PyTree, images: jax.Array) -> dict[str, jax.Array]:
            return {name: _ends(values) for name, values in activations(self.model, variables, images).items()}

        return _with_ranges(float_statistics(variables['batch_stats']), ranges(variables, images))

    def apply(
        self, variables: Mapping[str, PyTree], images: jax.Array, *, train: bool, mutable: Any = (), rngs: Any = None
    ) -> Any:
        """What the network returns, rounded: in evaluation always, in training after the delay.

        Args:
            variables: 'params' and 'batch_stats'.
            images: normalised, float [n, H, W, 3].
            train: whether the running statistics and the ranges follow the batch.
            mutable: in training, what is returned of the updated statistics.
            rngs: of dropout.
        """
        if not train:
            ranges = ranges_of(variables['batch_stats'])
            return apply_rounded(self.model, variables, images, ranges=ranges, input_range=self.input_range)
        return self._apply_in_training(variables, images, mutable, rngs)

    def _apply_in_training(self, variables, images, mutable, rngs):
        ranges, count = ranges_of(variables['batch_stats']), variables['batch_stats'][STATISTICS]['count']
        delay, freeze = self.phases()
        active, frozen = count >= delay, None if freeze is None else count >= freeze
        followed = {}

        def visit(name: str, values: jax.Array) -> jax.Array:
            followed[name] = self._followed(ranges[name], values, frozen)
            return jnp.where(active, fake_quantize(values, *followed[name]), values)

        with visiting(visit, frozen):
            outputs, updated = self.model.apply(
                _rounded(variables, active),
                jnp.where(active, fake_quantize(images, *self.input_range), images),
                train=True,
                mutable=mutable,
                rngs=rngs,
            )
        statistics = _with_ranges(updated.get('batch_stats', {}), followed, count + 1)
        return outputs, {**updated, 'batch_stats': statistics}

    def describe(self, batch_stats: PyTree) -> str:
        """When what is rounded, in a line.

        Args:
            batch_stats: of the network, arrays or their shapes.
        """
        delay, freeze = self.phases()
        frozen = '' if freeze is None else f', statistics frozen from batch {freeze + 1} on'
        ranges = len(ranges_of(batch_stats))
        return f'8 bit: kernels and {ranges} ranges of activations, rounded from batch {delay + 1} on{frozen}'

    def _followed(self, before: jax.Array, values: jax.Array, frozen: jax.Array | None) -> jax.Array:
        """A range after a batch."""
        low, high = _ends(lax.stop_gradient(values)).astype(before.dtype)
        if self.axis_name is not None:
            low, high = lax.pmin(low, self.axis_name), lax.pmax(high, self.axis_name)
        after = before + (1 - self.range_momentum) * (jnp.stack([low, high]) - before)
        return after if frozen is None else jnp.where(frozen, before, after)


def apply_rounded(
    model: nn.Module,
    variables: Mapping[str, PyTree],
    images: jax.Array,
    *,
    ranges: Mapping[str, Any],
    input_range: tuple[float, float],
) -> Any:
    """What a network returns in evaluation when its kernels, its input and its activations are rounded.

    Args:
        model: with the call contract of `mobilenets_jax.models`.
        variables: 'params' and 'batch_stats'.
        images: normalised, float [n, H, W, 3].
        ranges: the least and the largest value at each point of `visiting`, by its name.
        input_range: of the images.
    """
    with visiting(lambda name, values: fake_quantize(values, *ranges[name])):
        return model.apply(_rounded(variables), fake_quantize(images, *input_range), train=False)


def ranges_of(batch_stats: PyTree) -> dict[str, jax.Array]:
    """The ranges among running statistics, [2] each, by the names of the points; {} of a network that has none."""
    return flatten_dict(batch_stats.get(STATISTICS, {}).get('ranges', {}), sep='/')


def float_statistics(batch_stats: PyTree) -> PyTree:
    """The running statistics without the ranges."""
    return {name: part for name, part in batch_stats.items() if name != STATISTICS}


def activations(model: nn.Module, variables: Mapping[str, PyTree], images: jax.Array) -> dict[str, jax.Array]:
    """The activations of some images at each point whose range is learnt, as the network in float has them.

    Args:
        model: with the call contract of `mobilenets_jax.models`.
        variables: 'params' and, unless the network has none, 'batch_stats'.
        images: normalised, float [n, H, W, 3].
    """
    found = {}

    def keep(name: str, values: jax.Array) -> jax.Array:
        found[name] = values
        return values

    statistics = float_statistics(variables.get('batch_stats', {}))
    with visiting(keep):
        model.apply({'params': variables['params'], 'batch_stats': statistics}, images, train=False)
    return found


@contextlib.contextmanager
def visiting(visit: Visit, frozen: jax.Array | None = None) -> Iterator[None]:
    """In its context `visit` changes the activations at each point where a quantized file has values of them.

    These are: the outputs of batch norms with their activation, and what is before an activation that is an operation
    of its own; inputs and outputs of dense layers; gates and outputs of squeeze-and-excitations; and what a block makes
    of them, such as a sum.

    Args:
        visit: called at each point.
        frozen: in training, whether batch norms normalise by their running statistics and leave them; None: they do
            not.
    """
    visited = []  # what needs no second visit: a block may return what its last layer did

    def at(name: str, values: jax.Array) -> jax.Array:
        if any(values is other for other in visited):
            return values
        visited.append(visit(name, values))
        return visited[-1]

    def call(method: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        module, path = context.module, '/'.join(context.module.path)
        if context.method_name != '__call__' or not path:
            return method(*args, **kwargs)
        if isinstance(module, BatchNorm):
            return _visit_norm(at, path, module, args[0], kwargs['train'], frozen)
        if isinstance(module, nn.Dense):
            return _visit_dense(at, path, module, method, args[0])
        if isinstance(module, nn.Dropout):
            args = (at(f'{path}/input', args[0]), *args[1:])
        outputs = method(*args, **kwargs)
        if isinstance(module, nn.Dropout):
            visited.append(outputs)  # it is no operation of a file, where nothing is dropped and scaled
        if isinstance(module, Block):
            return at(f'{path}/output', outputs[0]), outputs[1]
        return at(f'{path}/output', outputs) if isinstance(module, SqueezeExcite) else outputs

    with nn.intercept_methods(call):
        yield


def _visit_norm(at: Visit, path: str, module: BatchNorm, inputs: jax.Array, train: bool, frozen: jax.Array | None):
    if module.activation in FUSED_ACTIVATIONS:
        return at(f'{path}/output', _normalized(module, module.activation, inputs, train, frozen))
    linear = at(f'{path}/linear', _normalized(module, 'linear', inputs, train, frozen))
    return at(f'{path}/output', ACTIVATIONS[module.activation](linear))


def _normalized(module: BatchNorm, activation: str, inputs: jax.Array, train: bool, frozen: jax.Array | None):
    """What a batch norm returns with another activation; its statistics are updated as they are without that."""
    norm = module.clone(activation=activation, parent=None)
    variables = {name: module.variables[name] for name in ('params', 'batch_stats')}
    if not train:
        return norm.apply(variables, inputs, train=False)
    outputs, updated = norm.apply(variables, inputs, train=True, mutable=['batch_stats'])
    statistics = updated['batch_stats']
    if frozen is not None:
        outputs = jnp.where(frozen, norm.apply(variables, inputs, train=False), outputs)
        before = variables['batch_stats']
        statistics = {name: jnp.where(frozen, before[name], value) for name, value in statistics.items()}
    for name, value in statistics.items():
        module.put_variable('batch_stats', name, value)
    return outputs


def _visit_dense(at: Visit, path: str, module: nn.Dense, method: Callable, inputs: jax.Array) -> jax.Array:
    outputs = method(at(f'{path}/input', inputs))
    if isinstance(module.parent, SqueezeExcite):
        if module.name == 'reduce':  # the ReLU behind it is one operation with it
            return outputs
        if module.parent.spec.gate == 'hard_sigmoid':  # relu6(x + 3) / 6, of which a file has the numerator
            return at(f'{path}/gate', ACTIVATIONS['relu6'](outputs + 3)) - 3
        return at(f'{path}/output', outputs)
    activation = module.parent.spec.head_activation if module.name == 'pre_logits' else 'linear'
    fused = activation != 'linear' and activation in FUSED_ACTIVATIONS
    return outputs if fused else at(f'{path}/output', outputs)


def _rounded(variables: Mapping[str, PyTree], active: jax.Array | None = None) -> dict[str, PyTree]:
    """The variables of a network with rounded kernels; where they are not `active`, as they are."""

    def rounded(path: tuple, leaf: jax.Array) -> jax.Array:
        if path[-1].key != 'kernel':
            return leaf
        kernel = fake_quantize_kernel(leaf)
        return kernel if active is None else jnp.where(active, kernel, leaf)

    params = jax.tree_util.tree_map_with_path(rounded, variables['params'])
    return {'params': params, 'batch_stats': float_statistics(variables['batch_stats'])}


def _ends(values: jax.Array) -> jax.Array:
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jnp.stack([wide.min(), wide.max()])


def _with_ranges(statistics: PyTree, ranges: Mapping[str, jax.Array], count: jax.Array | None = None) -> PyTree:
    count = jnp.zeros((), jnp.float32) if count is None else count
    return {**statistics, STATISTICS: {'ranges': unflatten_dict(dict(ranges), sep='/'), 'count': count}}
