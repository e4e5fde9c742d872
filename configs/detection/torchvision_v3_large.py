"""MobileNetV3-Large with SSDLite on COCO as torchvision trains it, from scratch.

Paper: 1905.02244 section 6.3 (the network).
Command: python train.py --config=configs/detection/torchvision_v3_large.py --workdir=WORKDIR --config.data.dir=DIR
Hardware: eight GPUs, 24 images each; hours not measured.
Expected: 21.3 AP on val2017 (torchvision's ssdlite320_mobilenet_v3_large).
Status: not yet tried.

DIR has annotations, train2017 and val2017. The rate is torchvision's 0.15 for 192 images; it falls after each step,
torchvision's after each epoch.
"""

from configs.detection import common


def get_config():
    """The recipe of torchvision's references."""
    config = common.get_config()
    config.batch_size = 192
    config.num_epochs = 660.0
    config.model.name = 'mobilenet_v3_large'
    config.model.convention = 'torchvision'
    config.model.tail = 'detection'
    config.data.augmentation = 'torchvision'
    config.data.keep_empty = False
    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.15
    config.schedule.learning_rate_batch_size = 192
    config.schedule.warmup_from = 0.00015
    config.schedule.warmup_steps = 610  # its first epoch
    config.weight_decay.skip = ()
    config.ema.decay = 0.0
    return config
