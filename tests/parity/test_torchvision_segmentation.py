"""The segmentation networks of torchvision, layer by layer and gradient by gradient, with random weights."""

import jax
import jax.numpy as jnp
import pytest
from torch_reference import assert_same_as_torch, assert_same_training_as_torch

from mobilenets_jax.heads import create_segmenter

pytestmark = pytest.mark.slow

CLASSES = 21
HEADS = {'lraspp_mobilenet_v3_large': 'lr_aspp', 'deeplabv3_mobilenet_v3_large': 'aspp'}
SIZES = [
    *(('lraspp_mobilenet_v3_large', size) for size in (224, 520, 257)),
    ('deeplabv3_mobilenet_v3_large', 129),
]


@pytest.fixture
def reference(torch, torchvision):
    class Logits(torch.nn.Module):
        """Images to logits [N, H, W, classes]."""

        def __init__(self, name):
            super().__init__()
            make = getattr(torchvision.models.segmentation, name)
            self.network = make(weights=None, weights_backbone=None, num_classes=CLASSES)
            for module in self.network.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0

        def forward(self, images):
            return self.network(images)['out'].permute(0, 2, 3, 1)

    return Logits


@pytest.mark.parametrize(('name', 'size'), SIZES)
def test_same_network_as_torchvision(torch, reference, name, size):
    model = create_segmenter('mobilenet_v3_large', CLASSES, HEADS[name], convention='torchvision')
    assert_same_as_torch(torch, model, reference(name), image_size=size)


@pytest.mark.parametrize(('name', 'size'), SIZES)
def test_same_training_as_torchvision(torch, reference, name, size):
    with jax.enable_x64(True):
        model = create_segmenter(
            'mobilenet_v3_large',
            CLASSES,
            HEADS[name],
            convention='torchvision',
            dtype=jnp.float64,
            head_fields={'dropout_rate': 0.0},
        )
        assert_same_training_as_torch(torch, model, reference(name), image_size=size)
