"""Published weights on any image folder; needs only `--config.data.dir=DIR`.

Paper: none; the usual recipe: a new classifier, and a third of its learning rate for the pretrained layers.
Command: python train.py --config=configs/finetune.py --config.data.dir=DIR --workdir=runs/finetune
    --config.init_from=... loads other weights: a file, a name of `python -m mobilenets_jax weights`, a run's workdir;
    --config.optimizer.rate_factors="(('^backbone/', 0.0),)" trains only the classifier.
Hardware: anything; two CPU cores took 4.4 minutes for 10 epochs of 500 images at 128 px with MobileNetV2.
Expected: depends on the data; 72 % on CIFAR-10 from 50 images a class (--config.image_size=128, MobileNetV2).
Status: reproduced here.
"""

from configs import base


def get_config():
    """A few epochs on DIR/train/CLASS/*.jpg, evaluated on DIR/val or DIR/test."""
    config = base.get_config()
    config.init_from = 'torchvision:mobilenet_v3_small.IMAGENET1K_V1'
    config.new_head = True
    config.batch_size = 32
    config.num_epochs = 10.0
    config.label_smoothing = 0.1

    config.model.dropout_rate = 0.2
    config.model.bn_momentum = 0.9  # a short run; the statistics must adapt quickly
    config.data.name = 'image_folder'
    config.data.min_area_fraction = 0.5
    config.data.eval_crop = 'resize_crop'

    config.optimizer.name = 'adamw'
    config.optimizer.epsilon = 1e-8
    config.optimizer.rate_factors = (('^backbone/', 0.3),)
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 1e-3
    config.schedule.warmup_percent = 10.0
    config.ema.decay = 0.0
    config.log.every_epochs = 1.0
    config.evaluation.every_epochs = 5.0
    config.checkpoint.every_epochs = 5.0
    return config
