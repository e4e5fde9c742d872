"""Sub-networks as masks on the parameters of a super-network, whose code does not change.

The super-network has every layer at its largest. A smaller one is the same computation with parts of its parameters set
to constants: `parameter * multiply + add`. Outer rings of a kernel that are 0 make a smaller kernel; a channel whose
batch norm has scale and bias 0 is 0 behind every activation in use, so that it is not there; a block whose last batch
norm is 0 adds nothing to its input; a squeeze-excite whose gate has kernel 0 and a large bias multiplies by 1. Since a
mask is an argument of the compiled program, one program runs all sub-networks, and the gradient of what is masked is 0.

Paper: Bender et al., TuNAS, 2008.06120 (masks on channels); Stamoulis et al., Single-Path NAS, 1904.02877 (small
    kernels inside of large ones).
Reference: google-research tunas/rematlib/mobile_model_v3.py@0c1bbe5.
Differs: TuNAS has layers of their own for the kernel sizes of MobileNetV3's space, and its masks are in the layers.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mobilenets_jax.trees import named_leaves

PyTree = Any

BLOCK = 'block'  # the name of a block is this and the two digits of its row, from 01 on
OPEN_GATE = 6.0  # a hard sigmoid of it is 1


class Sizes(NamedTuple):
    """What of a super-network a sub-network has; of a row that is left out everything is 0.

    Attributes:
        stem_kernel: height and width of the stem's kernel in pixels, int [].
        stem: channels of the stem, int [].
        kernel: height and width of the middle kernel of each row, int [R].
        inputs: channels of each row's input, int [R].
        expanded: channels in the middle of each row, int [R].
        squeeze: channels of the squeeze of each row, int [R]; 0 without squeeze-excite.
        outputs: channels of each row's output, int [R].
        last: channels of the last block's output, int [].
        head_conv: channels of the convolution before pooling, int []; None where the networks have none.
        pre_logits: channels of the layer after pooling, int []; None where the networks have none.
    """

    stem_kernel: Any
    stem: Any
    kernel: Any
    inputs: Any
    expanded: Any
    squeeze: Any
    outputs: Any
    last: Any
    head_conv: Any
    pre_logits: Any


def masked(params: PyTree, sizes: Sizes) -> PyTree:
    """The parameters of a super-network with which it computes the same as the sub-network.

    Args:
        params: of the super-network.
        sizes: of the sub-network, traced or not.
    """
    names = named_leaves(params)
    leaves = [_masked_leaf(name, leaf, sizes) for name, leaf in names.items()]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _masked_leaf(name: str, leaf: jax.Array, sizes: Sizes) -> jax.Array:
    kept = jnp.ones((), bool)
    for axis, size in _axis_sizes(name, leaf.ndim, sizes):
        first, index = _first(leaf, axis, size), jnp.arange(leaf.shape[axis])
        inside = (index >= first) & (index < first + size)
        kept = kept & inside.reshape([-1 if other == axis else 1 for other in range(leaf.ndim)])
    # A product, so that the gradient of what is masked is exactly 0.
    result = leaf * kept.astype(leaf.dtype)
    if name.endswith('/se/expand/bias'):
        return result + jnp.where(sizes.squeeze[_row(name)] == 0, OPEN_GATE, 0.0).astype(leaf.dtype)
    return result


def sliced(variables: PyTree, sizes: Sizes) -> PyTree:
    """The variables of the sub-network as a network of its own, NumPy arrays in nested dicts.

    Args:
        variables: parameters or running statistics of the super-network, or both in a dict.
        sizes: of the sub-network, not traced.
    """
    found: dict[str, Any] = {}
    numbers = {row: number for number, row in enumerate(np.flatnonzero(np.asarray(sizes.outputs)))}
    for name, leaf in named_leaves(variables).items():
        index = [slice(None)] * np.ndim(leaf)
        for axis, size in _axis_sizes(name, np.ndim(leaf), sizes):
            first = int(_first(leaf, axis, size))
            index[axis] = slice(first, first + int(size))
        part = np.asarray(leaf)[tuple(index)]
        if part.size == 0:  # of a row or a squeeze-excite that is left out
            continue
        path = name.split('/')
        if any(_is_block(step) for step in path):
            path = [_block_name(numbers[_row(name)]) if _is_block(step) else step for step in path]
        branch = found
        for step in path[:-1]:
            branch = branch.setdefault(step, {})
        branch[path[-1]] = part
    return found


def _first(leaf: Any, axis: int, size: Any) -> Any:
    """The first kept entry of an axis: 0; of a kernel's sides the one from which its middle is kept.

    The middle of a kernel stays over the same pixel, at stride 2, too.
    """
    return (leaf.shape[axis] - size) // 2 if np.ndim(leaf) == 4 and axis < 2 else 0


def _is_block(step: str) -> bool:
    return step.startswith(BLOCK) and step[len(BLOCK) :].isdecimal()


def _block_name(row: int) -> str:
    return f'{BLOCK}{row + 1:02d}'


def _row(name: str) -> int:
    """The row of the block that a parameter is in, from 0 on."""
    return next(int(step[len(BLOCK) :]) - 1 for step in name.split('/') if _is_block(step))


def _axis_sizes(name: str, ndim: int, sizes: Sizes) -> Iterator[tuple[int, Any]]:
    """The axes of a parameter or statistic that a sub-network uses in part, with the size of that part.

    Args:
        name: a path, e.g. 'backbone/block03/expand/conv/kernel'.
        ndim: 4 of the kernel of a convolution, HWIO; 2 of a dense one, [in, out]; 1 of all others.
        sizes: of the sub-network.
    """
    inputs, outputs, kernel = _module_sizes(name, sizes)
    if ndim == 4 and kernel is not None:
        yield from ((0, kernel), (1, kernel))
    if ndim > 1 and inputs is not None:
        yield ndim - 2, inputs
    if outputs is not None:
        yield ndim - 1, outputs


def _module_sizes(name: str, sizes: Sizes) -> tuple[Any, Any, Any]:
    """Channels of the input and of the output, and the kernel, of the layer that a parameter is of; None: the whole."""
    layer = '/'.join(step for step in name.split('/')[:-1] if step not in ('conv', 'bn'))
    if BLOCK not in layer:
        pooled = sizes.last if sizes.head_conv is None else sizes.head_conv
        return {
            'stem': (None, sizes.stem, sizes.stem_kernel),
            'head_conv': (sizes.last, sizes.head_conv, None),
            'pre_logits': (sizes.head_conv, sizes.pre_logits, None),
            'logits': (pooled if sizes.pre_logits is None else sizes.pre_logits, None, None),
        }[layer.rpartition('/')[2]]
    row = _row(name)
    expanded, squeeze = sizes.expanded[row], sizes.squeeze[row]
    return {
        'expand': (sizes.inputs[row], expanded, None),
        'depthwise': (None, expanded, sizes.kernel[row]),
        'se/reduce': (expanded, squeeze, None),
        'se/expand': (squeeze, expanded * (squeeze > 0), None),
        'project': (expanded, sizes.outputs[row], None),
    }[layer.partition(_block_name(row) + '/')[2]]
