"""MobileNetV2 1.0 at 224 px on ImageNet.

Paper: 1801.04381 Table 4, row MobileNetV2: 72.0 top-1, 300M multiply-adds, 3.4M parameters.
Command: python train.py --config=configs/imagenet/mobilenet_v2.py --workdir=WORKDIR --config.data.dir=DATA_DIR
Hardware: TPU v3 4x4 slice (32 cores); hours not measured.
Expected: 72.0 top-1 (paper); 72.7 with the TF Model Garden's recipe, whose schedule this is.
Status: not yet tried.

The paper trains with 16 asynchronous workers of 96 images at 0.045, decayed by 0.98 an epoch, which a synchronous pod
cannot repeat; learning rate, decay and length are the TF Model Garden's for the same pod.
"""

from configs.imagenet import common


def get_config():
    """The recipe, row by row."""
    config = common.get_config()
    config.num_epochs = 500.0  # TF Model Garden
    config.label_smoothing = 0.1  # slim README

    config.model.name = 'mobilenet_v2'
    config.model.bn_momentum = 0.997  # slim
    config.model.dropout_rate = 0.2  # slim: keep 0.8

    config.optimizer.epsilon = 0.002  # TF Model Garden
    config.schedule.name = 'exponential'
    config.schedule.learning_rate = 0.256  # TF Model Garden: 0.008 per 128 images
    config.schedule.learning_rate_batch_size = 4096
    config.schedule.decay_rate = 0.96  # TF Model Garden
    config.schedule.decay_epochs = 2.5
    config.schedule.warmup_epochs = 5.0  # TF Model Garden

    config.weight_decay.rate = 4e-5  # paper
    config.weight_decay.skip = ('/bn/', '/bias$', '/depthwise/')  # slim regularises neither
    return config
