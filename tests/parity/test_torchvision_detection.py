"""The detector of torchvision, layer by layer and gradient by gradient, with random weights."""

import jax
import jax.numpy as jnp
import pytest
from torch_reference import assert_same_as_torch, assert_same_training_as_torch

from mobilenets_jax.heads import create_detector

pytestmark = pytest.mark.slow

CLASSES = 20


def joined(outputs):
    """Codes and logits of each anchor as one array; torchvision's codes are x, y, width, height, with its weights."""
    return jnp.concatenate([outputs['codes'], outputs['logits']], axis=-1)


@pytest.fixture
def reference(torch, torchvision):
    class Outputs(torch.nn.Module):
        """Images to codes and logits [N, A, 4 + 1 + classes]; map after map, boxes first, as ours are called."""

        def __init__(self):
            super().__init__()
            make = torchvision.models.detection.ssdlite320_mobilenet_v3_large
            self.network = make(weights=None, weights_backbone=None, num_classes=1 + CLASSES)

        def forward(self, images):
            maps = list(self.network.backbone(images).values())
            heads = self.network.head.regression_head, self.network.head.classification_head
            rows = []
            for number, x in enumerate(maps):
                columns = [self.of_anchors(head.module_list[number](x), head.num_columns) for head in heads]
                rows.append(torch.cat(columns, dim=-1))
            return torch.cat(rows, dim=1)

        def of_anchors(self, x, columns):
            return x.permute(0, 2, 3, 1).reshape(len(x), -1, columns)

    return Outputs()


def test_the_reference_is_torchvisions_own_forward_pass(torch, reference):
    reference.eval()
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        head = reference.network.head(list(reference.network.backbone(images).values()))
        expected = torch.cat([head['bbox_regression'], head['cls_logits']], dim=-1)
        assert torch.equal(reference(images), expected)


@pytest.mark.parametrize('size', [320, 257])
def test_same_network_as_torchvision(torch, reference, size):
    model = create_detector('mobilenet_v3_large', CLASSES, convention='torchvision', tail='detection')
    assert_same_as_torch(torch, model, reference, image_size=size, outputs=joined)


def test_same_training_as_torchvision(torch, reference):
    with jax.enable_x64(True):
        model = create_detector(
            'mobilenet_v3_large', CLASSES, convention='torchvision', tail='detection', dtype=jnp.float64
        )
        assert_same_training_as_torch(torch, model, reference, image_size=320, outputs=joined)


def test_constants_of_batch_norm_are_torchvisions(torch, reference):
    model = create_detector('mobilenet_v3_large', CLASSES, convention='torchvision', tail='detection')
    constants = {(m.eps, round(1 - m.momentum, 6)) for m in reference.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    ours = {(part.bn_epsilon, part.bn_momentum) for part in (model.settings, model.head_spec)}
    assert constants == ours == {(1e-3, 0.97)}


def test_anchors_are_torchvisions(torch, reference):
    model = create_detector('mobilenet_v3_large', CLASSES, convention='torchvision', tail='detection')
    maps = list(reference.eval().network.backbone(torch.zeros(1, 3, 320, 320)).values())
    import torchvision.models.detection.image_list as image_list

    images = image_list.ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    (corners,) = reference.network.anchor_generator(images, maps)
    x1, y1, x2, y2 = (corners.numpy() / 320).T
    centred = jnp.stack([(y1 + y2) / 2, (x1 + x2) / 2, y2 - y1, x2 - x1], axis=1)
    assert jnp.abs(centred - model.anchors((320, 320))).max() < 1e-6
