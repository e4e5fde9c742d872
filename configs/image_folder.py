"""Your own images, from scratch; needs only `--config.data.dir=DIR`.

Paper: none; AdamW with a cosine schedule, for a few hundred to some ten thousand images on one machine.
Command: python train.py --config=configs/image_folder.py --config.data.dir=DIR --workdir=runs/mine
    With a few hundred images configs/finetune.py is much better, as it starts from published weights.
Hardware: anything; two busy CPU cores took 19 minutes for 500 images (1562 steps with MobileNetV3-Small).
Expected: depends on the data; 44.8 % on CIFAR-10 from 50 images a class (40.0 % with --config.num_epochs=30).
Status: reproduced here.
"""

from configs import base


def get_config():
    """A hundred epochs on DIR/train/CLASS/*.jpg, evaluated on DIR/val or DIR/test."""
    config = base.get_config()
    config.batch_size = 32
    config.image_size = 128
    config.num_epochs = 100.0
    config.label_smoothing = 0.1

    config.model.bn_momentum = 0.9  # a short run on few images; the statistics must adapt quickly
    config.model.dropout_rate = 0.2
    config.data.name = 'image_folder'
    config.data.min_area_fraction = 0.25
    config.data.eval_crop = 'resize_crop'

    config.optimizer.name = 'adamw'
    config.optimizer.epsilon = 1e-8
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 2e-3
    config.schedule.warmup_percent = 5.0
    config.weight_decay.rate = 0.05
    config.weight_decay.decoupled = True
    config.ema.decay = 0.99

    config.log.every_steps = 20
    config.evaluation.every_percent = 10.0
    config.checkpoint.every_percent = 10.0
    return config
