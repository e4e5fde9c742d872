"""timm's weights.

Reference: the pretrained configs of timm 1.0.31 (URL, crop, interpolation, mean and deviation, licence) and its
    results/results-imagenet.csv@aa4b585 (accuracies at the training resolution). The name of a file of a GitHub release
    ends in the first digits of its SHA-256; no hash is published for the files of the Hugging Face hub.
"""

from mobilenets_jax.weights.cards.card import Preprocessing, WeightCard

_RELEASES = 'https://github.com/rwightman/pytorch-image-models/releases/download'
_HUB = 'https://huggingface.co/timm/{}/resolve/main/model.safetensors'

# The files of releases; all others are on the hub under their own name.
_FILES = {
    'mobilenetv2_050.lamb_in1k': 'v0.1-weights/mobilenetv2_050-3d30d450',
    'mobilenetv2_100.ra_in1k': 'v0.1-weights/mobilenetv2_100_ra-b33bc2c4',
    'mobilenetv2_140.ra_in1k': 'v0.1-weights/mobilenetv2_140_ra-21a4e913',
    'mobilenetv3_large_100.ra_in1k': 'v0.1-weights/mobilenetv3_large_100_ra-f55367f5',
    'mobilenetv3_large_100.miil_in21k_ft_in1k': 'v0.1-tresnet/mobilenetv3_large_100_1k_miil_78_0-66471c13',
    'mobilenetv3_small_050.lamb_in1k': 'v0.1-weights/mobilenetv3_small_050_lambc-4b7bbe87',
    'mobilenetv3_small_075.lamb_in1k': 'v0.1-weights/mobilenetv3_small_075_lambc-384766db',
    'mobilenetv3_small_100.lamb_in1k': 'v0.1-weights/mobilenetv3_small_100_lamb-266a294c',
    'tf_mobilenetv3_large_075.in1k': 'v0.1-weights/tf_mobilenetv3_large_075-150ee8b0',
    'tf_mobilenetv3_large_100.in1k': 'v0.1-weights/tf_mobilenetv3_large_100-427764d5',
    'tf_mobilenetv3_large_minimal_100.in1k': 'v0.1-weights/tf_mobilenetv3_large_minimal_100-8596ae28',
    'tf_mobilenetv3_small_075.in1k': 'v0.1-weights/tf_mobilenetv3_small_075-da427f52',
    'tf_mobilenetv3_small_100.in1k': 'v0.1-weights/tf_mobilenetv3_small_100-37f49e2b',
    'tf_mobilenetv3_small_minimal_100.in1k': 'v0.1-weights/tf_mobilenetv3_small_minimal_100-922a7843',
    'mnasnet_100.rmsp_in1k': 'v0.1-weights/mnasnet_b1-74cb7081',
    'mnasnet_small.lamb_in1k': 'v0.1-weights/mnasnet_small_lamb-aff75073',
    'semnasnet_075.rmsp_in1k': 'v0.1-weights/semnasnet_075-18710866',
    'semnasnet_100.rmsp_in1k': 'v0.1-weights/mnasnet_a1-d9418771',
    'seresnet50.ra2_in1k': 'v0.1-weights/seresnet50_ra_224-8efdb4bb',
}

_V3_LARGE, _V3_SMALL = 'mobilenet_v3_large', 'mobilenet_v3_small'
_V3_LARGE_MINIMAL, _V3_SMALL_MINIMAL = f'{_V3_LARGE}_minimalistic', f'{_V3_SMALL}_minimalistic'

_ROWS = (
    # name, architecture, width, resized short side, interpolation, value range, top-1, top-5
    ('mobilenetv1_100.ra4_e3600_r224_in1k', 'mobilenet_v1', 1.0, 256, 'bicubic', 'symmetric', 75.388, 92.310),
    ('mobilenetv1_125.ra4_e3600_r224_in1k', 'mobilenet_v1', 1.25, 248, 'bicubic', 'symmetric', 76.920, 93.232),
    ('mobilenetv2_050.lamb_in1k', 'mobilenet_v2', 0.5, 256, 'bicubic', 'imagenet', 65.928, 86.114),
    ('mobilenetv2_100.ra_in1k', 'mobilenet_v2', 1.0, 256, 'bicubic', 'imagenet', 72.910, 91.000),
    ('mobilenetv2_140.ra_in1k', 'mobilenet_v2', 1.4, 256, 'bicubic', 'imagenet', 76.528, 93.008),
    ('mobilenetv3_large_100.ra_in1k', _V3_LARGE, 1.0, 256, 'bicubic', 'imagenet', 75.784, 92.528),
    ('mobilenetv3_large_100.ra4_e3600_r224_in1k', _V3_LARGE, 1.0, 235, 'bicubic', 'symmetric', 76.310, 92.842),
    ('mobilenetv3_large_100.miil_in21k_ft_in1k', _V3_LARGE, 1.0, 256, 'bilinear', 'unit', 77.920, 92.894),
    ('mobilenetv3_small_050.lamb_in1k', _V3_SMALL, 0.5, 256, 'bicubic', 'imagenet', 57.918, 80.144),
    ('mobilenetv3_small_075.lamb_in1k', _V3_SMALL, 0.75, 256, 'bicubic', 'imagenet', 65.284, 85.462),
    ('mobilenetv3_small_100.lamb_in1k', _V3_SMALL, 1.0, 256, 'bicubic', 'imagenet', 67.636, 87.638),
    ('tf_mobilenetv3_large_075.in1k', _V3_LARGE, 0.75, 256, 'bilinear', 'symmetric', 73.442, 91.332),
    ('tf_mobilenetv3_large_100.in1k', _V3_LARGE, 1.0, 256, 'bilinear', 'symmetric', 75.510, 92.600),
    ('tf_mobilenetv3_large_minimal_100.in1k', _V3_LARGE_MINIMAL, 1.0, 256, 'bilinear', 'symmetric', 72.270, 90.664),
    ('tf_mobilenetv3_small_075.in1k', _V3_SMALL, 0.75, 256, 'bilinear', 'symmetric', 65.706, 86.130),
    ('tf_mobilenetv3_small_100.in1k', _V3_SMALL, 1.0, 256, 'bilinear', 'symmetric', 67.922, 87.686),
    ('tf_mobilenetv3_small_minimal_100.in1k', _V3_SMALL_MINIMAL, 1.0, 256, 'bilinear', 'symmetric', 62.892, 84.270),
    ('mnasnet_100.rmsp_in1k', 'mnasnet_b1', 1.0, 256, 'bicubic', 'imagenet', 74.672, 92.108),
    ('mnasnet_small.lamb_in1k', 'mnasnet_small', 1.0, 256, 'bicubic', 'imagenet', 66.204, 86.470),
    ('semnasnet_075.rmsp_in1k', 'mnasnet_a1', 0.75, 256, 'bicubic', 'imagenet', 73.000, 91.124),
    ('semnasnet_100.rmsp_in1k', 'mnasnet_a1', 1.0, 256, 'bicubic', 'imagenet', 75.452, 92.608),
    ('ghostnet_100.in1k', 'ghostnet', 1.0, 256, 'bicubic', 'imagenet', 73.958, 91.542),
    ('seresnet50.ra2_in1k', 'se_resnet50', 1.0, 256, 'bicubic', 'imagenet', 80.260, 95.068),
)


def _card(name, model, width, resized, interpolation, normalization, top1, top5) -> WeightCard:
    file = _FILES.get(name)
    return WeightCard(
        name=f'timm:{name}',
        model=model,
        width_multiplier=width,
        convention='tf' if name.startswith('tf_') else 'timm',  # whose padding the trained network has
        preprocessing=Preprocessing(
            crop_fraction=224 / resized, interpolation=interpolation, normalization=normalization
        ),
        url=f'{_RELEASES}/{file}.pth' if file else _HUB.format(name),
        digest=f'sha256:{file.rpartition("-")[2]}' if file else None,
        licence='Apache-2.0',
        top1=top1,
        top5=top5,
    )


CARDS = tuple(_card(*row) for row in _ROWS)
