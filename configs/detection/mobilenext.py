"""MobileNeXt with SSDLite on COCO.

Paper: 2007.02269 section 4.3.
Command: python train.py --config=configs/detection/mobilenext.py --workdir=WORKDIR --config.data.dir=DIR
    --config.init_from=WEIGHTS --config.new_head=True
Hardware: eight GPUs, 32 images each; hours not measured.
Expected: 23.3 AP on val2017 (README of houqb/ssdlite-pytorch-mobilenext@6219e33).
Status: not yet tried.

DIR has annotations, train2017 and val2017; WEIGHTS is a MobileNeXt trained on ImageNet. On Pascal VOC (20 classes)
the paper's 72.6 AP50 needs --config.detection.loss=torchvision, a score_threshold of 0.01 and an iou_threshold of 0.45.
"""

from configs.detection import common


def get_config():
    """The authors' config: 32 images for each of eight GPUs, 200,000 steps."""
    config = common.get_config()
    config.batch_size = 256
    config.num_steps = 200_000
    config.model.name = 'mobilenext'
    config.model.sync_bn = True
    config.data.coco_ids = 'contiguous'
    config.data.normalization = 'imagenet'
    config.data.augmentation = 'mobilenext'
    config.data.color_distortion = 'mobilenext'
    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.01
    config.schedule.learning_rate_batch_size = 256
    config.schedule.warmup_from = 0.01 / 3
    config.schedule.warmup_steps = 500
    config.weight_decay.skip = ()
    config.ema.decay = 0.0
    return config
