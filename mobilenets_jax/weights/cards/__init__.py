"""The table of published weights: where they are, what they need, what they score.

    CARDS['torchvision:mobilenet_v3_large.IMAGENET1K_V2'].top1

`measured` values are of `MEASURED_ON`, a set of training images; they say that import and evaluation are right, and are
no validation accuracies.
"""

from mobilenets_jax.identity import CLASSIFICATION, DETECTION, SEGMENTATION
from mobilenets_jax.weights.cards import detection, keras, segmentation, slim, timm, torchvision
from mobilenets_jax.weights.cards.card import Preprocessing, WeightCard

__all__ = ['CARDS', 'MEASURED_ON', 'PREPROCESSING', 'Preprocessing', 'WeightCard']

MEASURED_ON = '1000 ImageNet training images, one a class'

_TABLES = (torchvision, timm, keras, slim, segmentation, detection)
CARDS: dict[str, WeightCard] = {card.name: card for table in _TABLES for card in table.CARDS}

# Task and source -> how a file without a card is evaluated.
PREPROCESSING = {
    CLASSIFICATION: {
        'torchvision': Preprocessing(normalization='imagenet'),
        'timm': Preprocessing(normalization='imagenet', interpolation='bicubic'),
        'd_li14': Preprocessing(normalization='imagenet'),
        'keras': Preprocessing(crop='rounded_resize_crop'),
        'slim': Preprocessing(crop='central_fraction'),
        'model_garden': Preprocessing(normalization='imagenet'),
        'tflite': Preprocessing(crop='rounded_resize_crop'),
    },
    SEGMENTATION: {
        'torchvision': Preprocessing(image_size=520, crop='short_side', crop_fraction=1.0, normalization='imagenet'),
        'tflite': Preprocessing(image_size=513, crop='padded', crop_fraction=1.0),
    },
    DETECTION: {
        'torchvision': Preprocessing(image_size=320, crop='stretched', crop_fraction=1.0),
        'tflite': Preprocessing(image_size=300, crop='stretched', crop_fraction=1.0, resize='legacy'),
    },
}
