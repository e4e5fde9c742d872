"""The networks that no installable package has, against forwards written from their papers and tables in NumPy."""

import functools

import jax
import numpy as np
import pytest
from model_cases import random_variables
from numpy_layers import NumpyNetwork, relu, relu6

from mobilenets_jax.models import create_model

IMAGE_SIZE = 64


def _shuffle(x, groups):
    """Channels (n, groups) become (groups, n), as the authors' code has it."""
    *batch, channels = x.shape
    return np.swapaxes(x.reshape(*batch, channels // groups, groups), -1, -2).reshape(x.shape)


def _grouped(network, x, path, groups):
    outputs = [
        network.convolve(part, network.weights(f'{path}/group{group}')['kernel'])
        for group, part in enumerate(np.split(x, groups, axis=-1), start=1)
    ]
    return network.normalise(np.concatenate(outputs, axis=-1), f'{path}/bn')


def shufflenet_v1(network, images, groups):
    """1707.01083, Table 1 and Figure 2."""
    x = network.pool(relu(network.unit(images, 'stem', 2)), np.max, -np.inf)
    number = 0
    for repeats in (4, 8, 4):
        for i in range(repeats):
            number += 1
            block = f'block{number:02d}'
            y = relu(_grouped(network, x, f'{block}/compress', 1 if number == 1 else groups))
            y = network.unit(y, f'{block}/depthwise', 2 if i == 0 else 1)
            y = _grouped(network, _shuffle(y, groups), f'{block}/expand', groups)
            x = np.concatenate([network.pool(x, np.mean, 0), relu(y)], axis=-1) if i == 0 else relu(x + y)
    return network.classify(x)


def mobilenext(network, images, identity_divisor):
    """2007.02269, with the special cases of the authors' `mnext.py`."""
    x = relu6(network.unit(images, 'stem', 2))
    number = 0
    for t, c, n, s in (
        (2, 96, 1, 2), (6, 144, 1, 1), (6, 192, 3, 2), (6, 288, 3, 2),
        (6, 384, 4, 1), (6, 576, 4, 2), (6, 960, 3, 1), (6, 1280, 1, 1),
    ):  # fmt: skip
        for i in range(n):
            number += 1
            block, stride = f'block{number:02d}', s if i == 0 else 1
            keep = n == 1 and s == 1
            same = x.shape[-1] == c
            y = x
            if t == 2 or same or keep:
                y = relu6(network.unit(y, f'{block}/depthwise1'))
            y = network.unit(y, f'{block}/reduce')
            y = relu6(network.unit(y, f'{block}/expand'))
            if t == 2 or same or keep or stride == 2:
                y = network.unit(y, f'{block}/depthwise2', stride)
            if same and t != 2 and not keep:
                y[..., : c // identity_divisor] += x[..., : c // identity_divisor]
            x = y
    return network.classify(x)


def mobilenet_edgetpu(network, images):
    """The slim code's `V3_EDGETPU`: (fused, kernel, stride, expansion, channels, residual)."""
    x = relu(network.unit(images, 'stem', 2))
    table = [(True, 3, 1, 1, 16, True), (True, 3, 2, 8, 32, True), *[(True, 3, 1, 4, 32, True)] * 3]
    table += [(True, 3, 2, 8, 48, True), *[(True, 3, 1, 4, 48, True)] * 3]
    table += [(False, 3, 2, 8, 96, True), *[(False, 3, 1, 4, 96, True)] * 3]
    table += [(False, 3, 1, 8, 96, False), *[(False, 3, 1, 4, 96, True)] * 3]
    table += [(False, 5, 2, 8, 160, True), *[(False, 5, 1, 4, 160, True)] * 3, (False, 3, 1, 8, 192, True)]
    for number, (fused, kernel_size, stride, expansion, channels, residual) in enumerate(table, start=1):
        block, y = f'block{number:02d}', x
        if expansion > 1:
            y = relu(network.unit(y, f'{block}/expand', stride if fused else 1))
            widened = network.weights(f'{block}/expand/conv')['kernel'].shape
            assert widened == (*(kernel_size if fused else 1,) * 2, x.shape[-1], expansion * x.shape[-1])
        if not fused:
            y = relu(network.unit(y, f'{block}/depthwise', stride))
            assert network.weights(f'{block}/depthwise/conv')['kernel'].shape[0] == kernel_size
        y = network.unit(y, f'{block}/project')
        x = x + y if residual and stride == 1 and x.shape[-1] == channels else y
    return network.classify(relu(network.unit(x, 'head_conv')))


CASES = {
    'shufflenet_v1_g1': ({}, functools.partial(shufflenet_v1, groups=1)),
    'shufflenet_v1_g3': ({}, functools.partial(shufflenet_v1, groups=3)),
    'shufflenet_v1_g8': ({'convention': 'megvii', 'width_multiplier': 0.5}, functools.partial(shufflenet_v1, groups=8)),
    'mobilenext': ({}, functools.partial(mobilenext, identity_divisor=1)),
    'mobilenext, a third': ({'identity_fraction': 1 / 3}, functools.partial(mobilenext, identity_divisor=3)),
    'mobilenet_edgetpu': ({}, mobilenet_edgetpu),
}


@pytest.mark.parametrize('case', CASES)
def test_same_logits_as_a_forward_in_numpy(case):
    fields, forward = CASES[case]
    model = create_model(case.split(',')[0], 10, **fields)
    variables = random_variables(model, IMAGE_SIZE)
    images = np.random.default_rng(1).uniform(-1, 1, (2, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    logits, _ = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    rules = model.spec.convention
    expected = forward(NumpyNetwork(variables, rules.padding, rules.bn_epsilon), images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.max(np.abs(expected)))
