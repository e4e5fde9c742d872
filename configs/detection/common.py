"""Settings shared by the detection recipes: SSDLite on COCO as TensorFlow trains it.

Reference: tensorflow/models research/object_detection/samples/configs: ssdlite_mobilenet_*_coco.config, of V3-Large
    @608bd22, V3-Small @5c70c8b, V2 @c76bfcf, V1 @b9ca525.
Differs: crowds are not trained as objects; the loss is divided by the number of matches in the global batch, not on
    each of 32 replicas; the cosine begins with the run, not after its warm-up. The configs of V1 and V2 have images of
    300 pixels; the recipes here have 320, as in Table 6 of the V3 paper.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """COCO with the 90 ids of the published networks, random crops and flips."""
    config = base.get_config('detection')
    config.image_size = (320, 320)
    config.data.name = 'coco'
    config.data.coco_ids = 'sparse'
    config.data.augmentation = 'tf'
    config.weight_decay.rate = 4e-5
    config.log.every_steps = 100
    config.evaluation.every_epochs = 20.0
    config.checkpoint.every_steps = 1000
    return config


def get_v3(model: str, num_steps: int) -> ml_collections.ConfigDict:
    """The V3 configs: from scratch, focal loss, momentum and cosine decay."""
    config = get_config()
    config.batch_size = 512
    config.num_steps = num_steps
    config.model.name = model
    config.model.tail = 'detection'
    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.4
    config.schedule.learning_rate_batch_size = 512
    config.schedule.warmup_from = 0.13333
    config.schedule.warmup_steps = 2000
    config.ema.decay = 0.0
    return config


def get_v1_or_v2(model: str, min_negatives: int) -> ml_collections.ConfigDict:
    """The V1 and V2 configs: from a trained backbone, hard negatives, RMSProp at a constant rate."""
    config = get_config()
    config.batch_size = 24
    config.num_steps = 200_000
    config.model.name = model
    config.model.bn_momentum = 0.9997
    config.detection.bn_momentum = 0.9997
    config.detection.class_bias = 0.0
    config.detection.loss = 'tf_v2'
    config.detection.min_negatives = min_negatives
    config.optimizer.name = 'rmsprop'
    config.optimizer.momentum = 0.9
    config.optimizer.decay = 0.9
    config.optimizer.epsilon = 1.0
    config.schedule.name = 'exponential'
    config.schedule.learning_rate = 0.004
    config.schedule.learning_rate_batch_size = 24
    config.schedule.decay_rate = 0.95
    config.schedule.decay_steps = 800_720
    config.ema.decay = 0.9999
    return config
