"""MobileNetV3-Large with LR-ASPP on Cityscapes, output stride 16.

Paper: 1905.02244 Table 7, row 8: 72.36 mIoU (val), 1.51M parameters, 9.74B multiply-adds; Table 8: 72.6 (test).
Command: python train.py --config=configs/segmentation/cityscapes_v3_large.py --workdir=WORKDIR --config.data.dir=DIR
Hardware: TPU v3 4x4 slice (32 cores); hours not measured.
Expected: 72.36 mIoU (paper).
Status: not yet tried.

DIR has leftImg8bit and gtFine. The paper names neither rate nor length; those are deeplab's, see common.py.
"""

from configs.segmentation import common


def get_config():
    """Row 8 of the table."""
    return common.get_cityscapes('mobilenet_v3_large')
