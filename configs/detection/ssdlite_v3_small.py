"""MobileNetV3-Small with SSDLite on COCO, from scratch, with half the last channels.

Paper: 1905.02244 Table 6: 16.1 AP on test-dev, 1.77M parameters, 0.16B multiply-adds, 43 ms; with all channels
    (--config.model.tail=full) 16.0, 2.49M, 0.21B, 52 ms.
Command: python train.py --config=configs/detection/ssdlite_v3_small.py --workdir=WORKDIR --config.data.dir=DIR
Hardware: TPU v3 4x4 slice (32 cores), 16 images each; hours not measured.
Expected: 15.6 AP (TensorFlow's detection model zoo).
Status: not yet tried.

DIR has annotations, train2017 and val2017. It trains twice as long as V3-Large.
"""

from configs.detection import common


def get_config():
    """TensorFlow's config."""
    return common.get_v3('mobilenet_v3_small', num_steps=800_000)
