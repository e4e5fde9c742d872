"""MobileNetV3-Large 1.0 at 224 px on ImageNet.

Paper: 1905.02244v5 Table 3, row V3-Large 1.0: 75.2 top-1, 219M multiply-adds, 5.4M parameters.
Command: python train.py --config=configs/imagenet/mobilenet_v3_large.py --workdir=WORKDIR --config.data.dir=DATA_DIR
Hardware: TPU v3 4x4 slice (32 cores), the paper's; hours not measured.
Expected: 75.2 top-1 (paper).
Status: not yet tried.

Section 6.1.1 of the paper, row by row; 'decay rate of 0.01 every 3 epochs' is read as the TF Model Garden reads it,
times 0.99, and 'dropout of 0.8' as the share that is kept.
"""

from configs.imagenet import common


def get_config():
    """The recipe, row by row."""
    config = common.get_config()
    config.num_epochs = 1000.0  # TF Model Garden (for Small); the paper prints no length
    config.label_smoothing = 0.1  # TF Model Garden; the paper does not say

    config.model.name = 'mobilenet_v3_large'
    config.model.bn_momentum = 0.99  # paper
    config.model.dropout_rate = 0.2  # paper: keep 0.8

    config.optimizer.epsilon = 0.002  # TF Model Garden (for Small)
    config.schedule.name = 'exponential'
    config.schedule.learning_rate = 0.1  # paper
    config.schedule.learning_rate_batch_size = 4096
    config.schedule.decay_rate = 0.99  # paper, every 3 epochs
    config.schedule.decay_epochs = 3.0
    config.schedule.warmup_epochs = 5.0  # TF Model Garden (for Small)
    config.schedule.warmup_from = 0.001

    config.weight_decay.rate = 1e-5  # paper
    config.weight_decay.skip = ('/bn/',)  # l2_loss on all but batch norm, as tensorflow/tpu mnasnet
    return config
