"""MobileNetV3-Large with LR-ASPP on Pascal VOC, as torchvision trains it on COCO's images with VOC's classes.

Paper: 1905.02244 section 6.4 (the network).
Command: python train.py --config=configs/segmentation/voc_v3_large.py --workdir=WORKDIR --config.data.dir=DIR
    --config.init_from=WEIGHTS --config.new_head=True
Hardware: TPU v3 4x4 slice (32 cores); hours not measured.
Expected: 57.9 mIoU of torchvision's network on COCO val2017 with VOC's classes.
Status: not yet tried.

torchvision: batch 32, SGD at 0.01, weight decay 1e-6, 30 epochs of COCO, crops of 480 from short sides of 260 to 1040.
WEIGHTS is torchvision's MobileNetV3-Large of ImageNet.
"""

from configs.segmentation import common


def get_config():
    """The recipe of torchvision's references."""
    config = common.get_config()
    config.batch_size = 32
    config.image_size = (480, 480)
    config.num_epochs = 30.0
    config.data.name = 'voc'
    config.data.normalization = 'imagenet'
    config.data.augmentation = 'torchvision'
    config.model.name = 'mobilenet_v3_large'
    config.model.convention = 'torchvision'
    config.segmentation.head = 'lr_aspp'
    config.schedule.learning_rate = 0.01
    config.weight_decay.rate = 1e-6
    return config
