"""MobileNetV2 with image pooling and a 1x1 convolution (R-ASPP) on Pascal VOC, output stride 16.

Paper: 1801.04381 Table 7: 75.32 mIoU, 2.11M parameters, 2.75B multiply-adds.
Command: python train.py --config=configs/segmentation/voc_v2.py --workdir=WORKDIR --config.data.dir=DIR
    --config.init_from=WEIGHTS --config.new_head=True
Hardware: TPU v3 4x4 slice (32 cores); hours not measured.
Expected: 75.32 mIoU on val (paper, pretrained on COCO and trained on the augmented set of 10,582 images).
Status: not yet tried.

DIR has JPEGImages, SegmentationClass and ImageSets; WEIGHTS is a MobileNetV2 of ImageNet. Rate and length are those of
deeplab.
"""

from configs.segmentation import common


def get_config():
    """Deeplab's recipe for VOC."""
    config = common.get_config()
    config.batch_size = 32
    config.image_size = (513, 513)
    config.num_steps = 30_000
    config.data.name = 'voc'
    config.model.name = 'mobilenet_v2'
    config.segmentation.head = 'r_aspp'
    config.segmentation.filters = 256
    config.schedule.learning_rate = 0.007
    config.schedule.learning_rate_batch_size = 16
    return config
