"""Endpoints: sizes, channels and taps at every output stride."""

import functools

import golden_values
import jax
import numpy as np
import pytest
from golden_values import ENDPOINTS, PYRAMID, golden
from model_cases import abstract_outputs, all_networks, random_variables

from mobilenets_jax.models import create_model, list_models


@pytest.mark.parametrize('name', list_models())
def test_sizes_and_channels_at_224(name):
    found = golden_values.endpoints(name)
    assert found == golden(ENDPOINTS, name)
    assert [found[endpoint][0] for endpoint in PYRAMID] == [112, 56, 28, 14, 7]


@pytest.mark.parametrize('name', all_networks())
@pytest.mark.parametrize(('output_stride', 'smallest'), [(16, 14), (8, 28)])
def test_output_stride_keeps_sizes_and_parameters(name, output_stride, smallest):
    (_, plain), variables = abstract_outputs(name)
    (_, dilated), dilated_variables = abstract_outputs(name, output_stride=output_stride)
    assert dilated_variables == variables
    for endpoint, value in plain.items():
        if value.ndim == 4:
            size = max(value.shape[1], smallest)
            assert dilated[endpoint].shape == (2, size, size, value.shape[3]), endpoint


@pytest.mark.parametrize('convention', ['tf', 'torchvision'])
def test_a_dilated_network_has_the_same_features_subsampled(convention):
    """A dilated network computes the strided one's features at more places.

    The last stride of MobileNetV2 is in block 14. Up to there everything is equal; block 14 seen at every second pixel
    equals the strided block 14 if its own kernel is not dilated, as in slim; torchvision dilates it.
    """
    size = 64
    images = np.random.default_rng(0).standard_normal((1, size, size, 3), np.float32)
    features = {}
    for output_stride in (32, 16):
        model = create_model('mobilenet_v2', 10, 0.35, convention, output_stride=output_stride)
        variables = random_variables(model, size)
        apply = jax.jit(functools.partial(model.apply, train=False))
        _, features[output_stride] = apply(variables, images)
    for block in range(1, 14):
        name = f'block{block:02d}'
        np.testing.assert_array_equal(features[16][name], features[32][name], err_msg=name)
    np.testing.assert_array_equal(features[16]['C4/expansion'], features[32]['C4/expansion'])
    strided, dilated = features[32]['block14'], features[16]['block14']
    offset = {'tf': 1, 'torchvision': 0}[convention]  # where a stride of 2 starts under either padding
    matches = np.allclose(strided, dilated[:, offset::2, offset::2], atol=1e-5)
    assert matches == (convention == 'tf')
