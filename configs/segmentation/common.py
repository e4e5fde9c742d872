"""Settings shared by the segmentation recipes: deeplab's training, which the papers of V2 and V3 follow.

Reference: tensorflow/models research/deeplab train.py and input_preprocess.py: SGD with momentum 0.9, 'poly' decay of
    power 0.9, scales 0.5 to 2 in steps of 0.25, flips; Cityscapes as its authors advise in tensorflow/models#3677: a
    rate of 0.01, crops of 769 pixels, 90,000 steps.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Deeplab's optimizer, schedule and regularisation."""
    config = base.get_config('segmentation')
    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.schedule.name = 'polynomial'
    config.schedule.power = 0.9
    config.weight_decay.rate = 4e-5
    config.log.every_steps = 100
    config.evaluation.every_epochs = 10.0
    config.checkpoint.every_steps = 1000
    return config


def get_cityscapes(model: str) -> ml_collections.ConfigDict:
    """LR-ASPP of 128 filters with halved last channels (RF2) on the fine annotations, from scratch."""
    config = get_config()
    config.batch_size = 32
    config.image_size = (769, 769)
    config.num_steps = 90_000
    config.data.name = 'cityscapes'
    config.model.name = model
    config.model.tail = 'segmentation'
    config.model.bn_momentum = 0.997
    config.segmentation.head = 'lr_aspp'
    config.segmentation.filters = 128
    config.schedule.learning_rate = 0.01
    config.schedule.learning_rate_batch_size = 16
    return config
