"""MobileNetV1 at 32 px on CIFAR-10, from a folder of its images kept in memory.

Paper: 1704.04861 (the network); strides for 32 px as in kuangliu/pytorch-cifar models/mobilenetv2.py: 8 in all.
Command: python train.py --config=configs/cifar10.py --workdir=runs/cifar10 --config.data.dir=DIR
Hardware: two CPU cores with tile registers for bfloat16 (Intel AMX), 56 minutes.
Expected: 88.0 % test top-1, on images compressed as JPEG; curves in docs/cifar10_curves.png.
Status: reproduced here.

DIR/train/CLASS/*.jpg has the 50,000 training images, DIR/test/CLASS/*.jpg the 10,000 test images. In training they are
shifted by up to four pixels and mirrored, on the device.
"""

from configs import base


def get_config():
    """A short recipe: one warm-up, one cosine, SGD."""
    config = base.get_config()
    config.batch_size = 128
    config.image_size = 32
    config.num_epochs = 38.0
    config.label_smoothing = 0.1

    config.model.name = 'mobilenet_v1'
    config.model.width_multiplier = 0.5
    config.model.num_removed_strides = 2
    config.model.dtype = 'bfloat16'  # for processors with tile registers for it; use 'float32' on others
    config.model.bn_momentum = 0.9  # statistics must adapt within 390 steps an epoch
    config.model.dropout_rate = 0.0

    config.data.name = 'memory_folder'
    config.data.normalization = 'imagenet'

    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.1
    config.schedule.learning_rate_batch_size = 128
    config.schedule.warmup_percent = 15.0
    config.weight_decay.rate = 5e-4
    config.weight_decay.skip = ('/bn/', '/bias$', '/depthwise/')
    config.ema.decay = 0.998  # averages over the last one or two epochs

    config.log.every_steps = 50
    config.evaluation.every_epochs = 4.0
    config.checkpoint.every_epochs = 4.0
    return config
