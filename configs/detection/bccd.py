"""MobileNetV2 with SSDLite on BCCD: blood cells of three classes in 364 images of 640x480 pixels.

Paper: 1801.04381 section 6.2 (the network).
Command: python train.py --config=configs/detection/bccd.py --workdir=runs/bccd --config.data.dir=DIR
    --config.init_from=tflite_mobilenet_v2_1.0_224_quant.tflite --config.new_head=True
Hardware: two CPU cores.
Expected: the goal is 85 % AP50 on the test split; 84.2 % was reached (EMA; 85.2 % on val), in 42 minutes with other
    work on the machine, and 83.6 % at 300x400 (87.7 % on val). docs/detection.md has the details.
Status: tried, not reached.

DIR has JPEGImages, Annotations and ImageSets/Main, as Pascal VOC's.
"""

from configs import base


def get_config():
    """SGD from ImageNet weights, at half the size of the images."""
    config = base.get_config('detection')
    config.batch_size = 16
    config.image_size = (240, 320)
    config.num_epochs = 80.0

    config.model.name = 'mobilenet_v2'
    config.detection.max_detections = 100

    config.data.name = 'voc'
    config.data.class_names = ('RBC', 'WBC', 'Platelets')
    config.data.color_distortion = 'photometric'

    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.02
    config.schedule.warmup_percent = 3.0
    config.weight_decay.rate = 4e-5
    config.ema.decay = 0.995

    config.log.every_steps = 20
    config.evaluation.every_epochs = 10.0
    config.checkpoint.every_epochs = 20.0
    return config
