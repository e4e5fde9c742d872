"""The layers of one of our networks in the order of their calls: what every name map names."""

import dataclasses
import functools
from collections.abc import Iterator

import flax.linen as nn
import jax

from mobilenets_jax.models import get_spec
from mobilenets_jax.models.layers import BatchNorm, Conv
from mobilenets_jax.models.specs import NetworkSpec

# No dense layer depends on the size of the image, so the smallest one that every network takes will do.
_TRACED_IMAGE_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
        path: e.g. 'backbone/block03/expand/conv'.
        kind: 'conv', 'depthwise', 'norm' or 'dense'.
        stride: of a convolution, in pixels; else 1.
        dilation: of a convolution: the spacing of its kernel's taps, in pixels; else 1.
        activation: of a norm, a key of `ops.ACTIVATIONS`; of a convolution that of the norm after it; None of a dense
            layer, whose activation is the network's own matter.
        epsilon: of a norm, added to the variances; else 0.
        shapes: of its leaves, e.g. {'params/backbone/stem/conv/kernel': (3, 3, 3, 32)}; kernels are HWIO or (in, out).
    """

    path: str
    kind: str
    stride: int
    dilation: int
    activation: str | None
    epsilon: float
    shapes: dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as the name maps use it.

    Attributes:
        name: of the architecture.
        layers: in the order of their calls.
        num_classes: width of the logits.
    """

    name: str
    layers: tuple[Layer, ...]
    num_classes: int

    @property
    def table(self) -> NetworkSpec:
        """The network at width 1.0, whose rows tell its stages apart."""
        return get_spec(self.name)

    @property
    def blocks(self) -> tuple[tuple[str, ...], ...]:
        """For each block its units, in the order of the calls: 'expand', 'depthwise', 'se/reduce', ...

        A convolution and the batch norm after it are one unit.
        """
        found: dict[str, dict[str, None]] = {}
        for layer in self.layers:
            block, _, inner = layer.path.removeprefix('backbone/').partition('/')
            if block.startswith('block'):
                found.setdefault(block, {})[inner.removesuffix('/conv').removesuffix('/bn')] = None
        return tuple(tuple(units) for units in found.values())

    def has(self, path: str) -> bool:
        """Whether there is a layer at `path`."""
        return any(layer.path == path for layer in self.layers)


@functools.lru_cache(maxsize=256)  # the same few networks are candidates for every file
def trace(name: str, model: nn.Module) -> Network:
    """The layers of `model`, a classifier or segmenter of the architecture `name`, without computing anything."""
    calls: list[tuple[str, nn.Module]] = []

    def record(call, args, kwargs, context):
        if _kind(context.module) is not None and context.method_name == '__call__':
            calls.append(('/'.join(context.module.path), context.module))
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, _TRACED_IMAGE_SIZE, _TRACED_IMAGE_SIZE, 3), 'float32')
    with nn.intercept_methods(record):
        variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        collection, *layer, name_of_leaf = (key.key for key in path)
        leaf_path = '/'.join([collection, *layer, name_of_leaf])
        shapes.setdefault('/'.join(layer), {})[leaf_path] = tuple(leaf.shape)
    return Network(
        name=name,
        layers=tuple(_layer(path, module, following, shapes[path]) for (path, module), following in _pairs(calls)),
        num_classes=model.num_classes,
    )


def _pairs(calls: list[tuple[str, nn.Module]]) -> Iterator[tuple[tuple[str, nn.Module], nn.Module | None]]:
    """Each call with the module that is called next."""
    return zip(calls, [*(module for _, module in calls[1:]), None], strict=True)


def _layer(path: str, module: nn.Module, following: nn.Module | None, shapes: dict[str, tuple[int, ...]]) -> Layer:
    norm = next((layer for layer in (module, following) if isinstance(layer, BatchNorm)), None)
    return Layer(
        path=path,
        kind=_kind(module),
        stride=getattr(module, 'stride', 1),
        dilation=getattr(module, 'dilation', 1),
        activation=None if isinstance(module, nn.Dense) else norm.activation,
        epsilon=module.settings.bn_epsilon if isinstance(module, BatchNorm) else 0.0,
        shapes=shapes,
    )


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, Conv):
        return 'depthwise' if module.depthwise else 'conv'
    if isinstance(module, BatchNorm):
        return 'norm'
    return 'dense' if isinstance(module, nn.Dense) else None
