"""A short run of the task in `brightness.py`, whose rate grows until it gets worse again. No test in here."""

from configs import base


def get_config():
    """Evaluated and saved every 20 steps."""
    config = base.get_config('brightness')
    config.batch_size = 64
    config.image_size = 8
    config.num_steps = 120
    config.data.normalization = 'unit'
    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.0
    config.schedule.name = 'constant'
    config.schedule.learning_rate = 0.4
    config.schedule.warmup_percent = 100.0
    config.ema.decay = 0.0
    config.log.every_steps = 20
    config.evaluation.every_steps = 20
    config.checkpoint.every_steps = 20
    config.checkpoint.keep_last = 1
    return config
