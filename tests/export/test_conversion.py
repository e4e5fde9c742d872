"""Every network becomes the operations that `golden/tflite_operations.json` lists, and computes what Flax computes."""

import json
import pathlib

import numpy as np
import pytest
from model_cases import random_variables

from mobilenets_jax.errors import RunError
from mobilenets_jax.export import converter, flatbuffer, lowering
from mobilenets_jax.export.litert import LiteNetwork
from mobilenets_jax.inference import freeze
from mobilenets_jax.models import create_model, list_models

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / 'golden' / 'tflite_operations.json').read_text())
FAST = ('mobilenet_v1', 'mobilenet_v3_small', 'shufflenet_v1_g3', 'shufflenet_v2')
SIZE = 224
# Of the largest logit. MobileNeXt with these weights is off by 2e-5 in float32 itself, beside float64; and the errors
# of 16 sigmoids, one behind the other, come to 0.7e-5 to 1.5e-5, depending on which native ops Flax has.
LIMITS = {'mobilenext': 5e-5, 'se_resnet50': 3e-5}
# Keras 3.15 and TensorFlow 2.21 make this of `keras.applications.MobileNetV3Small`.
KERAS_V3_SMALL = {'CONV_2D': 41, 'HARD_SWISH': 19, 'MUL': 18, 'DEPTHWISE_CONV_2D': 11, 'MEAN': 10, 'ADD': 6}
KERAS_V3_SMALL |= {'FULLY_CONNECTED': 2}


@pytest.mark.parametrize('row', [pytest.param(row, marks=[] if row in FAST else [pytest.mark.slow]) for row in GOLDEN])
def test_operations_and_logits(packages, row):
    name, _, convention = row.partition(' ')
    model = create_model(name, convention=convention or 'tf')
    variables = random_variables(model, SIZE)
    content = converter.to_tflite(lowering.stablehlo(model, variables, (SIZE, SIZE)), 'images', 'logits')
    assert flatbuffer.operation_counts(content) == GOLDEN[row]
    network = LiteNetwork(content, row)
    assert network.delegates == 1 and network.image_size == (SIZE, SIZE)
    images = np.random.default_rng(1).uniform(-1, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    expected = np.asarray(freeze(model, variables)(images))
    difference = np.abs(network(images) - expected).max() / np.abs(expected).max()
    assert difference <= LIMITS.get(row, 1e-5)


def test_every_network_has_golden_operations():
    assert {row.partition(' ')[0] for row in GOLDEN} == set(list_models())


def test_v3_small_has_no_more_operations_than_that_of_keras():
    assert sum(GOLDEN['mobilenet_v3_small'].values()) == sum(KERAS_V3_SMALL.values()) == 107


@pytest.mark.parametrize(
    ('operation', 'message'),
    [
        ('stablehlo.custom_call @nobody_knows(%x)', 'the network has operations that TFLite does not have: STABLEHLO_'),
        ('stablehlo.nothing %x', 'the converter failed (status 1): '),
    ],
)
def test_an_unknown_operation_is_one_line(packages, operation, message):
    program = f"""module {{ func.func @main(%x: tensor<1x8xf32>) -> tensor<1x8xf32> {{
      %0 = {operation} : (tensor<1x8xf32>) -> tensor<1x8xf32>
      return %0 : tensor<1x8xf32> }} }}"""
    with pytest.raises(RunError) as failure:
        converter.to_tflite(program, 'images', 'logits')
    assert str(failure.value).startswith(message) and '\n' not in str(failure.value)
