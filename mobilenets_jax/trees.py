"""Pytrees by the names of their leaves: the single spelling of a parameter's path, in messages and in patterns."""

from typing import Any

import jax
import numpy as np

PyTree = Any


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves by path, e.g. 'params/stem/conv/kernel', in the order of `jax.tree.leaves`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}


def describe_leaf(leaf: Any) -> str:
    """Dtype and shape of an array or jax.ShapeDtypeStruct, e.g. 'float32[3, 3]'."""
    dtype = np.dtype(leaf.dtype) if hasattr(leaf, 'dtype') else np.asarray(leaf).dtype
    return f'{dtype.name}{list(np.shape(leaf))}'
