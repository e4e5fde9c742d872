"""Settings shared by the ImageNet recipes: the MobileNet papers' 4x4 TPU pod and the Inception preprocessing.

Batch 4096 is 32 cores x 128 images (1905.02244 section 6.1.1; a v3 4x4 slice has 16 chips of two cores).
"""

from configs import base


def get_config():
    """The fields that a recipe starts from; it sets the network, the learning rate and the decay itself."""
    config = base.get_config()
    config.batch_size = 4096  # 32 cores x 128
    config.image_size = 224
    config.model.dtype = 'bfloat16'
    config.data.name = 'tfds:imagenet2012'
    config.optimizer.name = 'rmsprop'
    config.optimizer.decay = 0.9
    config.optimizer.momentum = 0.9
    config.ema.decay = 0.9999

    config.log.every_steps = 100
    config.evaluation.every_epochs = 5.0
    config.checkpoint.every_epochs = 5.0
    config.checkpoint.keep_last = 3
    return config
