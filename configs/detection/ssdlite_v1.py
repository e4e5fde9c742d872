"""MobileNetV1 with SSDLite on COCO.

Paper: 1801.04381 Table 6: 22.2 AP on test-dev, 5.1M parameters, 1.3B multiply-adds.
Command: python train.py --config=configs/detection/ssdlite_v1.py --workdir=WORKDIR --config.data.dir=DIR
    --config.init_from=WEIGHTS --config.new_head=True
Hardware: one GPU; hours not measured.
Expected: 22.2 AP on test-dev (paper); TensorFlow's config begins from a trained detector, not from a classifier.
Status: not yet tried.

DIR has annotations, train2017 and val2017; WEIGHTS is a MobileNetV1 of ImageNet.
"""

from configs.detection import common


def get_config():
    """TensorFlow's config."""
    return common.get_v1_or_v2('mobilenet_v1', min_negatives=0)
