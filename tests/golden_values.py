"""What the files in `golden/` say of a network, as it is built today, and as they say it.

`make golden NAMES=...` writes them: `make_golden.py`.
"""

import collections
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.interpreters import partial_eval
from model_cases import abstract_outputs

from mobilenets_jax.models import create_model
from mobilenets_jax.ops import fuse
from mobilenets_jax.report.counts import count_model, equations

FOLDER = pathlib.Path(__file__).parent / 'golden'
COUNTS, ENDPOINTS, NATIVE_CALLS = (FOLDER / f'{name}.json' for name in ('counts', 'endpoints', 'native_calls'))
PYRAMID = ('C1', 'C2', 'C3', 'C4', 'C5')
TAPS = ('C4/expansion', 'C3/depthwise', 'C5/expansion')


def parameters_file(name: str) -> pathlib.Path:
    """The file with the paths and shapes of a network's parameters."""
    return FOLDER / 'parameters' / f'{name}.txt'


def golden(file: pathlib.Path, name: str) -> Any:
    """What a golden file says of a network; without an entry the test fails and says how one is made."""
    if file.suffix == '.txt':
        found = file.read_text() if file.exists() else None
    else:
        found = json.loads(file.read_text()).get(name)
    if found is None:
        pytest.fail(f'{file.name} has no {name}: `make golden NAMES={name}` writes it, to be checked', pytrace=False)
    return found


def counts(name: str) -> dict[str, Any]:
    """A row of `counts.json`: parameters, and multiply-adds of an image of 224 pixels, with 1000 classes."""
    found = count_model(name)
    return {
        'name': name,
        'width': 1.0,
        'params': found.params,
        'total': found.params + found.batch_stats,
        'no_bn': found.params - found.norm_params,
        'madds': found.madds,
    }


def endpoints(name: str) -> dict[str, list[int]]:
    """Height and channels of each endpoint that a head may use, for an image of 224 pixels."""
    (_, found), _ = abstract_outputs(name)
    return {tap: [found[tap].shape[1], found[tap].shape[3]] for tap in (*PYRAMID, *TAPS) if tap in found}


def parameters(name: str) -> str:
    """The paths and shapes of all variables of 10 classes, a sorted line for each."""
    _, variables = abstract_outputs(name)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    lines = sorted(f'{jax.tree_util.keystr(path, simple=True, separator="/")} {leaf.shape}' for path, leaf in leaves)
    return '\n'.join(lines) + '\n'


def native_calls(name: str) -> dict[str, dict[str, int]]:
    """How often a network calls each native op, in evaluation and with the gradient of a training step."""
    model = create_model(name, dropout_rate=0.0)
    images = jax.ShapeDtypeStruct((32, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    arrays = variables['params'], variables['batch_stats'], images
    evaluate, train = forwards(model)

    def loss(params, batch_stats, images):
        logits, statistics = fuse(train)(params, batch_stats, images)
        return logits.sum(), statistics

    return {
        'evaluation': _native_calls(fuse(evaluate), *arrays),
        'training': _native_calls(jax.grad(loss, has_aux=True), *arrays),
    }


def forwards(model) -> tuple[Callable, Callable]:
    """Evaluation and training of a network as functions of arrays: logits, and in training the new statistics."""

    def evaluate(params, batch_stats, images):
        return model.apply({'params': params, 'batch_stats': batch_stats}, images, train=False)[0]

    def train(params, batch_stats, images):
        variables = {'params': params, 'batch_stats': batch_stats}
        (logits, _), updated = model.apply(variables, images, train=True, mutable=['batch_stats'])
        return logits, updated['batch_stats']

    return evaluate, train


def _native_calls(function: Callable, *arrays) -> dict[str, int]:
    """How often each native op is called, without calls whose results are not used."""
    program = jax.make_jaxpr(function)(*arrays).jaxpr
    program, _ = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    names = [equation.params['target_name'] for equation in equations(program) if equation.primitive.name == 'ffi_call']
    return dict(sorted(collections.Counter(name.removeprefix('mobilenets_jax_') for name in names).items()))
