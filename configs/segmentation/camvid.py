"""MobileNetV2 with LR-ASPP on CamVid: street scenes of 480x360 pixels, eleven classes.

Paper: 1801.04381 (the network), 1905.02244 section 6.4 (the head).
Command: python train.py --config=configs/segmentation/camvid.py --workdir=runs/camvid --config.data.dir=DIR
    --config.init_from=tflite_mobilenet_v2_1.0_224_quant.tflite --config.new_head=True
Hardware: two CPU cores.
Expected: the goal is 65 % test mIoU; 61.9 % was reached (EMA; 71.8 % on val), in 45 minutes with other work on the
    machine, and 63.5 % with three scales and mirrored images. docs/segmentation.md has the details.
Status: tried, not reached.

DIR has the folders train, trainannot, val, valannot, test and testannot.
"""

from configs import base

# The fourth root of median frequency balancing (Eigen and Fergus, 1411.4734 section 6.3.2) on the training set: sky,
# building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist. Without the root precision is lower.
CLASS_WEIGHTS = (0.73, 0.67, 1.48, 0.62, 1.0, 0.81, 1.4, 1.18, 0.94, 1.59, 1.73)


def get_config():
    """SGD on crops, from ImageNet weights."""
    config = base.get_config('segmentation')
    config.batch_size = 12
    config.image_size = (
        289,
        353,
    )  # multiples of the output stride plus 1: the same padding on both sides, as in evaluation
    config.num_epochs = 80.0

    config.model.name = 'mobilenet_v2'
    config.model.bn_momentum = 0.99
    config.segmentation.head = 'lr_aspp'
    config.segmentation.filters = 128
    config.segmentation.low = 'block03/depthwise'  # at stride 4: poles and signs are few pixels wide
    config.segmentation.bn_momentum = 0.99
    config.segmentation.class_weights = CLASS_WEIGHTS
    config.segmentation.eval_scales = (1.5,)

    config.data.name = 'mask_folder'
    config.data.classes = 'camvid'
    config.data.eval_size = (385, 481)  # multiples plus 1, too, also at 1.5 times the size
    config.data.scale_step = 0.0
    config.data.min_scale = 0.75
    config.data.max_scale = 2.5
    config.data.color_distortion = 'photometric'

    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.schedule.name = 'polynomial'
    config.schedule.learning_rate = 0.03
    config.schedule.warmup_percent = 3.0
    config.weight_decay.rate = 1e-4
    config.ema.decay = 0.995

    config.log.every_steps = 30
    config.evaluation.every_epochs = 10.0
    config.checkpoint.every_epochs = 20.0
    return config
