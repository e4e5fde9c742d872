"""Trains a trained classifier for 8 bit; needs only `--config.data.dir=DIR --config.init_from=WORKDIR`.

Paper: 1806.08342 section 5: start from trained weights, train at a low rate, freeze the statistics at the end.
Command: python train.py --config=configs/quantized.py --config.data.dir=DIR --config.init_from=runs/mine
    --workdir=runs/mine_int8
    python -m mobilenets_jax export --workdir=runs/mine_int8 --out=mine.tflite --quantize=int8 --calibration=DIR/train
Hardware: anything; on CPUs a step takes longer than without rounding.
Expected: no less than the export alone; docs/export.md has the results of 8 steps.
Status: not yet tried.
"""

from configs import base


def get_config():
    """A few epochs on DIR/train/CLASS/*.jpg at a small rate, evaluated in 8 bit on DIR/val or DIR/test."""
    config = base.get_config()
    config.init_from = 'runs/mine'
    config.batch_size = 32
    config.num_epochs = 5.0

    config.quantization.enabled = True
    config.quantization.range_momentum = 0.9  # a short run; the ranges must adapt quickly
    config.quantization.freeze_percent = 50.0
    config.model.dropout_rate = 0.0
    config.data.name = 'image_folder'
    config.data.min_area_fraction = 0.5
    config.data.eval_crop = 'resize_crop'

    config.optimizer.name = 'adamw'
    config.optimizer.epsilon = 1e-8
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 1e-5
    config.ema.decay = 0.0
    config.log.every_percent = 5.0
    return config
