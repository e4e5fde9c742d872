"""torchvision's weights.

Reference: the weight enumerations of torchvision 0.28, models/mobilenetv2.py, mobilenetv3.py, mnasnet.py,
    shufflenetv2.py and resnet.py. A file's name ends in the first digits of its SHA-256.
"""

from mobilenets_jax.weights.cards.card import Preprocessing, WeightCard

_ROOT = 'https://download.pytorch.org/models'

_ROWS = (
    # model, weights, architecture, width, file, digits of its SHA-256, resized short side, top-1, top-5
    ('mobilenet_v2', 'V1', 'mobilenet_v2', 1.0, 'mobilenet_v2', 'b0353104', 256, 71.878, 90.286),
    ('mobilenet_v2', 'V2', 'mobilenet_v2', 1.0, 'mobilenet_v2', '7ebf99e0', 232, 72.154, 90.822),
    ('mobilenet_v3_large', 'V1', 'mobilenet_v3_large', 1.0, 'mobilenet_v3_large', '8738ca79', 256, 74.042, 91.340),
    ('mobilenet_v3_large', 'V2', 'mobilenet_v3_large', 1.0, 'mobilenet_v3_large', '5c1a4163', 232, 75.274, 92.566),
    ('mobilenet_v3_small', 'V1', 'mobilenet_v3_small', 1.0, 'mobilenet_v3_small', '047dcff4', 256, 67.668, 87.402),
    ('mnasnet0_5', 'V1', 'mnasnet_b1', 0.5, 'mnasnet0.5_top1_67.823', '3ffadce67e', 256, 67.734, 87.490),
    ('mnasnet0_75', 'V1', 'mnasnet_b1', 0.75, 'mnasnet0_75', '7090bc5f', 232, 71.180, 90.496),
    ('mnasnet1_0', 'V1', 'mnasnet_b1', 1.0, 'mnasnet1.0_top1_73.512', 'f206786ef8', 256, 73.456, 91.510),
    ('mnasnet1_3', 'V1', 'mnasnet_b1', 1.3, 'mnasnet1_3', 'a4c69d6f', 232, 76.506, 93.522),
    ('shufflenet_v2_x0_5', 'V1', 'shufflenet_v2', 0.5, 'shufflenetv2_x0.5', 'f707e7126e', 256, 60.552, 81.746),
    ('shufflenet_v2_x1_0', 'V1', 'shufflenet_v2', 1.0, 'shufflenetv2_x1', '5666bf0f80', 256, 69.362, 88.316),
    ('shufflenet_v2_x1_5', 'V1', 'shufflenet_v2', 1.5, 'shufflenetv2_x1_5', '3c479a10', 232, 72.996, 91.086),
    ('shufflenet_v2_x2_0', 'V1', 'shufflenet_v2', 2.0, 'shufflenetv2_x2_0', '8be3c8ee', 232, 76.230, 93.006),
    ('resnet50', 'V1', 'resnet50', 1.0, 'resnet50', '0676ba61', 256, 76.130, 92.862),
    ('resnet50', 'V2', 'resnet50', 1.0, 'resnet50', '11ad3fa6', 232, 80.858, 95.434),
)

CARDS = tuple(
    WeightCard(
        name=f'torchvision:{name}.IMAGENET1K_{weights}',
        model=architecture,
        width_multiplier=width,
        convention='torchvision',
        preprocessing=Preprocessing(crop_fraction=224 / resized, normalization='imagenet'),
        url=f'{_ROOT}/{file}-{digits}.pth',
        digest=f'sha256:{digits}',
        licence='BSD-3-Clause',
        top1=top1,
        top5=top5,
    )
    for name, weights, architecture, width, file, digits, resized, top1, top5 in _ROWS
)
