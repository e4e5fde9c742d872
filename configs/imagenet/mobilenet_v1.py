"""MobileNetV1 1.0 at 224 px on ImageNet.

Paper: 1704.04861 Table 6, row 1.0 MobileNet-224: 70.6 top-1, 569M multiply-adds, 4.2M parameters.
Command: python train.py --config=configs/imagenet/mobilenet_v1.py --workdir=WORKDIR --config.data.dir=DATA_DIR
Hardware: TPU v3 4x4 slice (32 cores); hours not measured.
Expected: 70.6 top-1 (paper); 72.3 with the TF Model Garden's recipe, whose schedule this is.
Status: not yet tried.

The paper prints little: RMSProp, less augmentation and regularisation than Inception-V3, no label smoothing, little or
no weight decay on depthwise filters. The other values are from code, named in the comments.
"""

from configs.imagenet import common


def get_config():
    """The recipe, row by row."""
    config = common.get_config()
    config.num_epochs = 500.0  # TF Model Garden
    config.label_smoothing = 0.0  # paper: none

    config.model.name = 'mobilenet_v1'
    config.model.bn_momentum = 0.9997  # slim
    config.model.dropout_rate = 0.001  # slim: keep 0.999

    config.data.min_area_fraction = 0.25  # paper: 'limiting the size of small crops'; it prints no number
    config.data.color_distortion = 'fast'  # slim's default

    config.optimizer.epsilon = 0.002  # TF Model Garden
    config.schedule.name = 'exponential'
    config.schedule.learning_rate = 0.256  # TF Model Garden: 0.008 per 128 images
    config.schedule.learning_rate_batch_size = 4096
    config.schedule.decay_rate = 0.94  # TF Model Garden, slim
    config.schedule.decay_epochs = 2.5
    config.schedule.warmup_epochs = 5.0  # TF Model Garden

    config.weight_decay.rate = 4e-5  # slim
    config.weight_decay.skip = ('/bn/', '/bias$', '/depthwise/')  # paper: none on depthwise filters
    return config
