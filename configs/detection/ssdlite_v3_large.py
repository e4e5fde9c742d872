"""MobileNetV3-Large with SSDLite on COCO, from scratch, with half the last channels.

Paper: 1905.02244 Table 6: 22.0 AP on test-dev, 3.22M parameters, 0.51B multiply-adds, 119 ms; with all channels
    (--config.model.tail=full) 22.0, 4.97M, 0.62B, 137 ms.
Command: python train.py --config=configs/detection/ssdlite_v3_large.py --workdir=WORKDIR --config.data.dir=DIR
Hardware: TPU v3 4x4 slice (32 cores), 16 images each; hours not measured.
Expected: 22.3 AP (TensorFlow's detection model zoo).
Status: not yet tried.

DIR has annotations, train2017 and val2017.
"""

from configs.detection import common


def get_config():
    """TensorFlow's config."""
    return common.get_v3('mobilenet_v3_large', num_steps=400_000)
