"""MobileNetV3-Small 1.0 at 224 px on ImageNet.

Paper: 1905.02244v5 Table 3, row V3-Small 1.0: 67.4 top-1, 56M multiply-adds, 2.5M parameters.
Command: python train.py --config=configs/imagenet/mobilenet_v3_small.py --workdir=WORKDIR --config.data.dir=DATA_DIR
Hardware: TPU v3 4x4 slice (32 cores), the paper's; hours not measured.
Expected: 67.4 top-1 (paper); 67.5 with the TF Model Garden's recipe.
Status: not yet tried.
"""

from configs.imagenet import mobilenet_v3_large


def get_config():
    """The recipe of Large: the paper trains both alike. The TF Model Garden trains Small at a rate of 0.01."""
    config = mobilenet_v3_large.get_config()
    config.model.name = 'mobilenet_v3_small'
    return config
