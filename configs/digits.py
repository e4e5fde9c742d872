"""MobileNetV3-Small on scikit-learn's handwritten digits: real data, no download.

Paper: none; the built-in default, which tries the whole system.
Command: python train.py --config=configs/digits.py --workdir=runs/digits
Hardware: two CPU cores, about one minute.
Expected: test top-1 of 98 % or more.
Status: reproduced here.
"""

from configs import base


def get_config():
    """The run of `make demo`."""
    config = base.get_config()
    config.batch_size = 128
    config.image_size = 32
    config.num_steps = 540  # 48 epochs
    config.label_smoothing = 0.1

    config.model.output_stride = 16  # 32 pixels leave a 2x2 map rather than a single position
    config.model.bn_momentum = 0.9  # statistics must converge within a few hundred steps

    config.optimizer.epsilon = 0.002
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.006
    config.schedule.warmup_percent = 10.0
    config.weight_decay.rate = 1e-5
    config.ema.decay = 0.99

    config.log.every_steps = 15
    config.evaluation.every_steps = 90
    config.checkpoint.every_steps = 90
    return config
