"""Convention 'torchvision' is torchvision, layer by layer, with random weights and statistics."""

import pytest
from torch_reference import assert_same_as_torch

from mobilenets_jax.models import create_model

pytestmark = pytest.mark.slow

NETWORKS = {
    'mobilenet_v2': ('mobilenet_v2', 1.0),
    'mobilenet_v3_large': ('mobilenet_v3_large', 1.0),
    'mobilenet_v3_small': ('mobilenet_v3_small', 1.0),
    'shufflenet_v2_x0_5': ('shufflenet_v2', 0.5),
    'shufflenet_v2_x1_0': ('shufflenet_v2', 1.0),
    'shufflenet_v2_x1_5': ('shufflenet_v2', 1.5),
    'shufflenet_v2_x2_0': ('shufflenet_v2', 2.0),
    'mnasnet0_5': ('mnasnet_b1', 0.5),
    'mnasnet0_75': ('mnasnet_b1', 0.75),
    'mnasnet1_0': ('mnasnet_b1', 1.0),
    'mnasnet1_3': ('mnasnet_b1', 1.3),
    'resnet50': ('resnet50', 1.0),
}


@pytest.mark.parametrize('reference', NETWORKS)
def test_same_network_as_torchvision(torch, torchvision, reference):
    name, width = NETWORKS[reference]
    network = getattr(torchvision.models, reference)(weights=None)
    assert_same_as_torch(torch, create_model(name, 1000, width, 'torchvision'), network, image_size=96)


@pytest.mark.parametrize('name', ['mobilenet_v3_large', 'mobilenet_v3_small'])
def test_same_reduced_tail_as_torchvision(torch, torchvision, name):
    """That of its SSDLite."""
    inverted_residual, last_channel = torchvision.models.mobilenetv3._mobilenet_v3_conf(name, reduced_tail=True)
    network = torchvision.models.MobileNetV3(inverted_residual, last_channel)
    model = create_model(name, 1000, convention='torchvision', tail='detection')
    assert_same_as_torch(torch, model, network, image_size=96)


@pytest.mark.parametrize('name', ['mobilenet_v3_large', 'mobilenet_v3_small'])
def test_same_dilated_network_as_torchvision(torch, torchvision, name):
    """The segmentation networks of torchvision dilate the blocks of the last stride."""
    inverted_residual, last_channel = torchvision.models.mobilenetv3._mobilenet_v3_conf(name, dilated=True)
    network = torchvision.models.MobileNetV3(inverted_residual, last_channel)
    model = create_model(name, 1000, convention='torchvision', output_stride=16)
    assert_same_as_torch(torch, model, network, image_size=96)
