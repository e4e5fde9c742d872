"""The table of published weights: where they are, what they need, what they score.

    CARDS['torchvision:mobilenet_v3_large.IMAGENET1K_V2'].top1

`measured` values are of `MEASURED_ON`, a set of training images; they say that import and evaluation are right, and are
no validation accuracies.
"""

from mobilenets_jax.weights.cards import keras, segmentation, slim, timm, torchvision
from mobilenets_jax.weights.cards.card import Preprocessing, WeightCard

__all__ = ['CARDS', 'MEASURED_ON', 'PREPROCESSING', 'SEGMENTATION_PREPROCESSING', 'Preprocessing', 'WeightCard']

MEASURED_ON = '1000 ImageNet training images, one a class'

_TABLES = (torchvision, timm, keras, slim, segmentation)
CARDS: dict[str, WeightCard] = {card.name: card for table in _TABLES for card in table.CARDS}

# Source -> how a file without a card is evaluated: of a classifier, and of a segmentation network.
SEGMENTATION_PREPROCESSING = {
    'torchvision': Preprocessing(image_size=520, crop='short_side', crop_fraction=1.0, value_range='imagenet'),
    'tflite': Preprocessing(image_size=513, crop='padded', crop_fraction=1.0),
}
PREPROCESSING = {
    'torchvision': Preprocessing(value_range='imagenet'),
    'timm': Preprocessing(value_range='imagenet', interpolation='bicubic'),
    'd_li14': Preprocessing(value_range='imagenet'),
    'keras': Preprocessing(crop='rounded_resize_crop'),
    'slim': Preprocessing(crop='central_fraction'),
    'model_garden': Preprocessing(value_range='imagenet'),
    'tflite': Preprocessing(crop='rounded_resize_crop'),
}
