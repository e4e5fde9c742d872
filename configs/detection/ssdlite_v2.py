"""MobileNetV2 with SSDLite on COCO.

Paper: 1801.04381 Table 6: 22.1 AP on test-dev, 4.3M parameters, 0.8B multiply-adds.
Command: python train.py --config=configs/detection/ssdlite_v2.py --workdir=WORKDIR --config.data.dir=DIR
    --config.init_from=WEIGHTS --config.new_head=True
Hardware: one GPU; hours not measured.
Expected: 22.1 AP on test-dev (paper); TensorFlow's config begins from a trained detector, not from a classifier.
Status: not yet tried.

DIR has annotations, train2017 and val2017; WEIGHTS is a MobileNetV2 of ImageNet.
"""

from configs.detection import common


def get_config():
    """TensorFlow's config."""
    return common.get_v1_or_v2('mobilenet_v2', min_negatives=3)
