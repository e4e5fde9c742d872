"""Random weights that torchvision, timm and Keras save come back with their logits, from every file format."""

import functools

import jax
import numpy as np
import pytest

from mobilenets_jax.weights import load_pretrained

pytestmark = pytest.mark.slow

IMAGE_SIZE = 64

TORCHVISION = {
    'mobilenet_v2': {},
    'mobilenet_v2_050': {'width_mult': 0.5},
    'mobilenet_v3_large': {},
    'mobilenet_v3_small': {},
    'mnasnet0_5': {},
    'mnasnet0_75': {},
    'mnasnet1_0': {},
    'mnasnet1_3': {},
    'shufflenet_v2_x0_5': {},
    'shufflenet_v2_x1_0': {},
    'shufflenet_v2_x1_5': {},
    'shufflenet_v2_x2_0': {},
    'resnet50': {},
}
TIMM = (
    *('mobilenetv1_100', 'mobilenetv1_125', 'mobilenetv2_050', 'mobilenetv2_100', 'mobilenetv2_140'),
    *('mobilenetv3_large_075', 'mobilenetv3_large_100', 'mobilenetv3_small_050', 'mobilenetv3_small_075'),
    *('mobilenetv3_small_100', 'tf_mobilenetv3_large_075', 'tf_mobilenetv3_large_100'),
    *('tf_mobilenetv3_large_minimal_100', 'tf_mobilenetv3_small_100', 'tf_mobilenetv3_small_minimal_100'),
    *('mnasnet_050', 'mnasnet_100', 'mnasnet_small', 'semnasnet_075', 'semnasnet_100'),
    *('ghostnet_050', 'ghostnet_100', 'ghostnet_130', 'resnet50', 'seresnet50'),
)
KERAS = {
    'MobileNet': (0.25, 0.5, 0.75, 1.0),
    'MobileNetV2': (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    'MobileNetV3Large': (0.75, 1.0),
    'MobileNetV3Small': (0.75, 1.0),
}


def images():
    return np.random.default_rng(0).uniform(-1, 1, (2, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)


def assert_same_logits(path, expected, **options):
    model, variables, _ = load_pretrained(str(path), **options)
    logits, _ = jax.jit(functools.partial(model.apply, train=False))(variables, images())
    np.testing.assert_allclose(logits, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))


def _randomise_torch(torch, network):
    """Scales, biases and statistics that are anything but 0 and 1, and that fit the images."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(0, 0.2)
                module.momentum = 1.0
        inputs = torch.from_numpy(images().transpose(0, 3, 1, 2))
        network.train()(inputs)
        return network.eval()(inputs).numpy()


@pytest.mark.parametrize('name', TORCHVISION)
def test_torchvision(torch, torchvision, name, tmp_path):
    constructor = getattr(torchvision.models, name.removesuffix('_050'))
    network = constructor(weights=None, **TORCHVISION[name])
    expected = _randomise_torch(torch, network)
    torch.save(network.state_dict(), tmp_path / 'zip.pth')
    torch.save(network.state_dict(), tmp_path / 'legacy.pth', _use_new_zipfile_serialization=False)
    torch.save({'epoch': 1, 'state_dict': network.state_dict(), 'best': 0.5}, tmp_path / 'training.pth.tar')
    for file in ('zip.pth', 'legacy.pth', 'training.pth.tar'):
        assert_same_logits(tmp_path / file, expected)


@pytest.mark.parametrize('name', TIMM)
def test_timm(torch, timm, name, tmp_path):
    from safetensors.torch import save_file

    network = timm.create_model(name, pretrained=False)
    expected = _randomise_torch(torch, network)
    save_file(network.state_dict(), tmp_path / 'weights.safetensors')
    convention = 'tf' if name.startswith('tf_') else None
    assert_same_logits(tmp_path / 'weights.safetensors', expected, convention=convention)


@pytest.mark.parametrize(('name', 'alpha'), [(name, alpha) for name in KERAS for alpha in KERAS[name]])
@pytest.mark.parametrize('minimalistic', [False, True])
def test_keras(name, alpha, minimalistic, tmp_path):
    keras = pytest.importorskip('keras', reason='Keras comes with TensorFlow, which is not installed')
    if minimalistic and ('V3' not in name or alpha != 1.0):
        pytest.skip('Keras has no such network')
    options = {'minimalistic': minimalistic, 'include_preprocessing': False} if 'V3' in name else {}
    network = getattr(keras.applications, name)(
        (IMAGE_SIZE, IMAGE_SIZE, 3), alpha=alpha, weights=None, classifier_activation=None, **options
    )
    generator = np.random.default_rng(0)
    for weight in network.weights:
        if weight.name in ('gamma', 'moving_variance'):
            weight.assign(generator.uniform(0.8, 1.2, weight.shape))
        elif weight.name in ('beta', 'moving_mean', 'bias'):
            weight.assign(0.1 * generator.standard_normal(weight.shape))
    expected = np.asarray(network(images()))
    network.save(tmp_path / 'model.h5')
    network.save(tmp_path / 'model.keras')
    network.save_weights(tmp_path / 'model.weights.h5')
    for file in ('model.h5', 'model.keras', 'model.weights.h5'):
        assert_same_logits(tmp_path / file, expected)


@pytest.mark.parametrize('name', ['lraspp_mobilenet_v3_large', 'deeplabv3_mobilenet_v3_large'])
def test_torchvision_segmentation(torch, torchvision, name, tmp_path, capsys):
    """DeepLabv3's weights have an auxiliary head, for training alone."""
    aux = {'aux_loss': True} if name.startswith('deeplab') else {}
    network = getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=5, **aux)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, inputs):
            return self.network(inputs)['out']

    expected = _randomise_torch(torch, Logits()).transpose(0, 2, 3, 1)
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    assert_same_logits(tmp_path / 'weights.pth', expected, task='segmentation')
    assert ('aux_classifier' in capsys.readouterr().err) == bool(aux)
    pretrained = load_pretrained(str(tmp_path / 'weights.pth'), task='segmentation')
    preprocessing = pretrained.card.preprocessing
    assert (pretrained.model.num_classes, preprocessing.image_size, preprocessing.normalization) == (5, 520, 'imagenet')


@pytest.mark.parametrize('weights_backbone', [None, 'full tail'])
def test_torchvision_detection(torch, torchvision, weights_backbone, tmp_path, monkeypatch):
    """Scores and boxes, not codes, which are x, y, width, height there. A pretrained backbone has its full tail."""
    ssdlite = torchvision.models.detection.ssdlite
    if weights_backbone:
        weights_backbone = torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V1
        make = ssdlite.mobilenet_v3_large
        monkeypatch.setattr(ssdlite, 'mobilenet_v3_large', lambda *, weights, **fields: make(weights=None, **fields))
    network = ssdlite.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=weights_backbone, trainable_backbone_layers=6, num_classes=6
    )

    class Boxes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, inputs):
            maps = list(network.backbone(inputs).values())
            outputs = network.head(maps)
            size = tuple(inputs.shape[2:])
            anchors = network.anchor_generator(
                torchvision.models.detection.image_list.ImageList(inputs, [size] * len(inputs)), maps
            )
            boxes = [
                network.box_coder.decode_single(codes, of_image)
                for codes, of_image in zip(outputs['bbox_regression'], anchors, strict=True)
            ]
            scale = torch.tensor([size[1], size[0]] * 2)
            return torch.cat([torch.stack(boxes) / scale, outputs['cls_logits'].softmax(-1)], dim=-1)

    expected = _randomise_torch(torch, Boxes())
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    pretrained = load_pretrained(str(tmp_path / 'weights.pth'), task='detection')
    model, variables, card = pretrained
    assert (model.num_classes, card.fields.get('tail', 'full')) == (5, 'full' if weights_backbone else 'detection')
    outputs, _ = jax.jit(functools.partial(model.apply, train=False))(variables, images())
    boxes = model.head_spec.coder.decode(outputs['codes'], model.anchors(images().shape[1:3]))
    ours = np.concatenate([boxes[..., [1, 0, 3, 2]], jax.nn.softmax(outputs['logits'])], axis=-1)
    assert np.ptp(expected[..., 4:]) > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-4)
