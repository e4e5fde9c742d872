"""Every field of a run, with its unit and meaning; an experiment's file overrides a few of them.

A duration is set in one of four units: `NAME_steps`, `NAME_epochs`, `NAME_examples` or `NAME_percent` (of the run). The
unit on the command line replaces that of the file. Where a comment says what 'unset' means, the value None unsets the
field. A field that is set and has no effect with the other choices (beta1 with rmsprop) ends the run.

`get_config` has the fields of every task; `TASK_FIELDS` adds those of one task.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from mobilenets_jax.errors import check_choice


def _durations(config: ml_collections.ConfigDict, name: str) -> None:
    for unit, kind in (('steps', int), ('epochs', float), ('examples', int), ('percent', float)):
        config[f'{name}_{unit}'] = placeholder(kind)


def get_config(task: str = 'classification') -> ml_collections.ConfigDict:
    """The fields of a task and their defaults, for `--config=configs/base.py:TASK`."""
    check_choice('task', task, TASK_FIELDS)
    config = ml_collections.ConfigDict()
    config.task = task  # set by the config's file, as it decides which fields the config has
    config.seed = 0  # of initial parameters, order of the data, augmentation and dropout
    config.batch_size = 4096  # global: over all devices of all hosts
    config.image_size = 224  # pixels, height and width
    config.num_steps = placeholder(int)  # length of the run: this or num_epochs
    config.num_epochs = placeholder(float)
    # Published weights (a file, or a name of `python -m mobilenets_jax weights`) or the workdir of a run to start from.
    # They decide the network and the range of its input (`identity.NETWORK_FIELDS`), unless the command line sets
    # them. '': the parameters are initialised at random.
    config.init_from = ''
    config.new_head = False  # with init_from: a new head, needed for other classes or another task
    # If a step (the first one compiles), an evaluation or a save takes longer, the process ends and prints all stacks.
    config.hang_timeout_seconds = 1800.0
    config.profile_steps = ''  # 'FIRST:LAST', counted from 1: a trace of these steps is written to WORKDIR/profile

    config.model = ml_collections.ConfigDict()
    config.model.name = 'mobilenet_v3_small'  # `python -m mobilenets_jax models` lists them
    config.model.spec_file = ''  # a network's table in JSON (docs/search.md), which also has its name; not model.name
    config.model.table = ''  # the text of spec_file; saved in every checkpoint, so the file is not needed again
    config.model.width_multiplier = 1.0
    config.model.convention = 'tf'  # rounding, padding, constants: tf, torchvision, keras; for some timm, megvii
    config.model.num_classes = placeholder(int)  # unset: the data's
    config.model.tail = 'full'  # V2 and V3 also detection, segmentation: half the channels after the last stride
    config.model.num_removed_strides = 0  # the first N strides become 1, for small images: 1 or 2 at 32 pixels
    config.model.output_stride = 32  # 8, 16 or 32: later strides become dilations
    config.model.dropout_rate = placeholder(float)  # before the logits; unset: the paper's
    config.model.drop_path_rate = 0.0  # stochastic depth: residual block i of n (from 0) is skipped at i / n of it
    config.model.dtype = 'float32'  # of activations; parameters stay float32; float16 only to evaluate
    config.model.bn_momentum = placeholder(float)  # decay of running statistics; unset: the convention's
    config.model.bn_epsilon = placeholder(float)  # unset: the convention's
    config.model.divisor = placeholder(int)  # channels are rounded to multiples of it; unset: the convention's
    config.model.padding = placeholder(str)  # same (TensorFlow) or symmetric (PyTorch); unset: the convention's
    config.model.activation = placeholder(str)  # relu or relu6, replaces both; unset: the table's own
    config.model.sync_bn = False  # batch statistics over all devices; False: each device has its own

    config.data = ml_collections.ConfigDict()
    config.data.name = 'digits'  # digits, image_folder, memory_folder, records (see `prepare`), tfds:NAME
    config.data.dir = ''  # folder of the images, the records, or TFDS's data ('': TFDS's default)
    config.data.train_split = ''  # '': the source's default; 'train+val': both, of masks and boxes; TFDS: 'train[:80%]'
    config.data.eval_split = ''  # '': the source's default
    config.data.accept_changes = False  # resume a run although its training data have changed
    config.data.normalization = 'symmetric'  # symmetric ([-1, 1]), imagenet (mean and deviation) or unit ([0, 1])
    config.data.random_flip = True  # left to right; not used by the digits, which have their own augmentation
    # Image folders, records and TFDS.
    config.data.num_threads = 0  # to decode images; 0: as many as tf.data finds useful
    config.data.skip_bad_records = 0  # unreadable training examples to replace; the next one ends the run

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = 'rmsprop'  # rmsprop (TensorFlow's), sgd, adamw or lamb
    config.optimizer.momentum = 0.9  # rmsprop, sgd
    config.optimizer.nesterov = False  # rmsprop, sgd
    config.optimizer.decay = 0.9  # of the mean square: rmsprop
    config.optimizer.epsilon = 1e-3  # rmsprop (inside the root), adamw, lamb
    config.optimizer.beta1 = 0.9  # adamw, lamb
    config.optimizer.beta2 = 0.999  # adamw, lamb
    config.optimizer.clip_norm = placeholder(float)  # maximum global gradient norm; unset: never clipped
    # (pattern, factor): the learning rate of parameters whose path matches the pattern is multiplied by the factor; 0
    # freezes them. A module with only frozen parameters (a batch norm, a block, the backbone) runs as in evaluation.
    config.optimizer.rate_factors = ()
    config.optimizer.layer_decay = 1.0  # the rate falls by this factor from block to block, from the head to the stem
    config.optimizer.accumulation_steps = 1  # number of parts into which each device's batch is split

    config.schedule = ml_collections.ConfigDict()
    config.schedule.name = 'exponential'  # exponential, cosine, polynomial or constant
    config.schedule.learning_rate = 0.1  # at learning_rate_batch_size
    config.schedule.learning_rate_batch_size = placeholder(int)  # set: the rate scales with batch_size / this
    config.schedule.warmup_from = 0.0  # learning rate of the first warm-up step
    _durations(config.schedule, 'warmup')
    config.schedule.decay_rate = 0.99  # exponential: factor every decay_*
    config.schedule.power = 0.9  # polynomial: (1 - step / steps of the run) to this power
    config.schedule.staircase = True  # exponential: decay in jumps rather than smoothly
    _durations(config.schedule, 'decay')

    config.weight_decay = ml_collections.ConfigDict()
    config.weight_decay.rate = 0.0
    config.weight_decay.decoupled = False  # as AdamW and LAMB; False: rate / 2 * sum(w^2) in the loss, as TensorFlow
    config.weight_decay.skip = ('/bn/', '/bias$')  # regular expressions of the paths of parameters without decay

    config.ema = ml_collections.ConfigDict()
    config.ema.decay = 0.9999  # 0: no averages
    config.ema.ramp = True  # decay at most (1 + n) / (10 + n) at update n
    config.ema.batch_stats = True  # average the running statistics too

    config.log = ml_collections.ConfigDict()
    _durations(config.log, 'every')
    config.log.wandb_project = ''  # of Weights & Biases, which gets the metrics, too; '': none
    config.evaluation = ml_collections.ConfigDict()
    _durations(config.evaluation, 'every')
    config.checkpoint = ml_collections.ConfigDict()
    _durations(config.checkpoint, 'every')
    config.replica_check = ml_collections.ConfigDict()  # compares the devices' copies of the state; also before a save
    _durations(config.replica_check, 'every')
    config.checkpoint.keep_last = 2
    config.checkpoint.keep_best = True
    TASK_FIELDS[task](config)
    return config


def _add_quantization(config: ml_collections.ConfigDict) -> None:
    config.quantization = ml_collections.ConfigDict()
    config.quantization.enabled = False  # trains for 8 bit: weights and activations are rounded, see docs/export.md
    config.quantization.range_momentum = 0.99  # decay of the running ranges of the activations
    _durations(config.quantization, 'delay')  # nothing is rounded in training until then; unset: from the first step
    # From then on batch norms use their running statistics, and these and the ranges no longer change; unset: never.
    _durations(config.quantization, 'freeze')


def _add_classification(config: ml_collections.ConfigDict) -> None:
    _add_quantization(config)
    config.evaluation.flip = False  # the probabilities are the mean over each image and its mirror image
    config.distillation = ml_collections.ConfigDict()
    # A trained classifier with the data's classes that the network also learns from: a file of weights, a name of
    # `python -m mobilenets_jax weights`, or a run's workdir (its newest checkpoint) or checkpoint; '' for none.
    config.distillation.teacher = ''
    config.distillation.weight = 0.5  # of the loss by the teacher; that by the labels has 1 - weight
    config.distillation.targets = 'soft'  # the teacher's probabilities; hard: its likeliest class
    config.distillation.temperature = 1.0  # soft: all logits are divided by it, and the loss multiplied by its square
    config.label_smoothing = 0.0  # share of the target spread evenly over the classes
    config.data.repeated_augmentation = 1  # copies of an example in a batch, each augmented differently
    config.data.random_erasing = 0.0  # probability that a rectangle of a training image is erased
    config.data.random_erasing_fill = 'zero'  # its content: zero (the mean colour) or noise
    config.data.mixup_alpha = 0.0  # of mixup's Beta(alpha, alpha), for pairs of neighbours in a batch; 0: no mixup
    config.data.cutmix_alpha = 0.0  # the same for cutmix; with both, each pair gets one of the two
    config.data.shift_pixels = 4  # memory_folder: maximum random shift along each axis
    # Image folders, also in memory.
    config.data.numbered_classes = False  # folders are named by the labels of a network, as ImageNet-V2's 0 .. 999
    config.data.real_labels = ''  # ReaL's real.json for ImageNet's validation images: adds the accuracy by its labels
    # Image folders, records and TFDS.
    config.data.train_crop = 'inception'  # inception, random_resized (torchvision) or resize (the whole image)
    config.data.min_area_fraction = placeholder(float)  # minimum area of a crop / image; unset: 0.05 or 0.08
    config.data.color_distortion = 'fast'  # none, fast (brightness, saturation) or full (also hue, contrast)
    config.data.auto_augment = 'none'  # none, autoaugment_v0, randaugment or trivialaugment_wide
    config.data.randaugment_layers = 2  # operations on each image
    config.data.randaugment_magnitude = 9.0  # their mean strength, 0 to 10
    config.data.randaugment_magnitude_std = 0.5  # its standard deviation
    # central_fraction (TF), resize_crop (torchvision) or rounded_resize_crop (big_vision)
    config.data.eval_crop = 'central_fraction'
    config.data.crop_fraction = 0.875  # of the side, in evaluation
    config.data.interpolation = 'bilinear'  # of the two resize_crops: bilinear or bicubic, antialiased like PIL's


def _add_segmentation_data(config: ml_collections.ConfigDict) -> None:
    with config.ignore_type():  # images of segmentation need not be square
        config.image_size = (513, 513)  # pixels, height and width, of the training crop
    config.data.mask_dir = ''  # mask_folder, voc: the folder of the masks, e.g. '{split}annot'; '': the source's own
    config.data.classes = ''  # names and values of the masks: camvid, voc or cityscapes; '': the source's own
    config.data.class_names = ()  # instead of a class set: the names, by train id
    config.data.palette = ()  # RGB in 0 .. 255 of each class, for pictures; (): that of the class set, or Pascal VOC's
    config.data.remap = ()  # (value in a mask file, train id), in addition to those of the class set
    config.data.ignore_labels = ()  # values in mask files to ignore, in addition to 255 and those of the class set
    config.data.eval_size = ()  # (height, width) to which evaluation images are padded; (): the source's own
    # Pixels of the long side, for networks with a fixed input size: images (not masks) are resized, padded to a square.
    config.data.eval_resize = 0
    config.data.augmentation = 'deeplab'  # deeplab or torchvision: how images are scaled; cropped to image_size
    config.data.min_scale = 0.5  # least factor by which images are scaled
    config.data.max_scale = 2.0  # largest
    config.data.scale_step = 0.25  # deeplab: difference between the possible factors; 0: any factor
    config.data.base_size = 520  # torchvision: pixels of the short side at factor 1
    config.data.color_distortion = 'none'  # none or photometric (SSD's: brightness, contrast, saturation, hue)


def _add_segmentation(config: ml_collections.ConfigDict) -> None:
    _add_segmentation_data(config)
    config.model.output_stride = 16
    config.segmentation = ml_collections.ConfigDict()
    config.segmentation.head = 'lr_aspp'  # lr_aspp, r_aspp or aspp, see mobilenets_jax/heads/aspp.py
    # Fields of the head; unset: deeplab's values, or torchvision's with the convention torchvision.
    config.segmentation.filters = placeholder(int)  # channels of each branch: the V3 paper's F, 128 or 256
    config.segmentation.atrous_rates = placeholder(tuple)  # aspp: dilation rate of each 3x3 branch
    config.segmentation.low = placeholder(str)  # lr_aspp: low-level endpoint of its second logits, e.g. C2/depthwise
    config.segmentation.gate = placeholder(str)  # lr_aspp: sigmoid or hard_sigmoid
    config.segmentation.pool_size = placeholder(int)  # lr_aspp: height and width of the gate's pooling windows
    config.segmentation.pool_strides = placeholder(tuple)  # lr_aspp: strides of these windows
    config.segmentation.align_corners = placeholder(bool)  # of every resize in the network
    config.segmentation.bn_momentum = placeholder(float)  # of the head's batch norms
    # Weight in the loss of each class, by train id; (): all the same.
    config.segmentation.class_weights = ()
    # Evaluation averages the probabilities over the image at these scales, with eval_flip also mirrored at each scale.
    config.segmentation.eval_scales = (1.0,)
    config.segmentation.eval_flip = False


def _add_detection_data(config: ml_collections.ConfigDict) -> None:
    with config.ignore_type():  # images of detection need not be square
        config.image_size = (320, 320)  # pixels, height and width; the aspect ratio of an image is not kept
    config.data.classes = ''  # coco or voc: only the classes of that set, in its order; '': the source's own
    config.data.class_names = ()  # the same as a list of names; some VOC and YOLO data need it
    config.data.resize = 'half_pixel'  # half_pixel (TensorFlow 2, PyTorch) or legacy (TensorFlow 1, published SSDs)
    config.data.augmentation = 'tf'  # in training: none, tf (ssd_random_crop), torchvision (by IoU) or mobilenext
    config.data.color_distortion = 'none'  # none, photometric (SSD's) or mobilenext (also permutes the channels)
    config.data.max_boxes = placeholder(int)  # of a training example; more are an error; unset: the largest number
    config.data.keep_empty = True  # coco, voc, yolo: use training images without a box; False: leave them out
    config.data.train_difficult = False  # voc: train on boxes marked difficult; evaluation always ignores them
    config.data.coco_ids = 'contiguous'  # coco: labels count the classes; sparse: label = id - 1, as published
    config.data.annotation_file = 'annotations/instances_{split}.json'  # coco: in data.dir
    config.data.image_dir = '{split}'  # coco: in data.dir


def _add_detection(config: ml_collections.ConfigDict) -> None:
    _add_detection_data(config)
    del config.model.dropout_rate  # a detector has none
    config.detection = ml_collections.ConfigDict()
    config.detection.head = placeholder(str)  # tf, ssd, torchvision or mobilenext; unset: as model.convention
    config.detection.bn_momentum = placeholder(float)  # of the head's batch norms; unset here and below: the head's
    config.detection.class_bias = placeholder(float)  # initial bias of all class logits
    config.detection.min_scale = placeholder(float)  # of the anchors of the first map: side / side of the image
    config.detection.max_scale = placeholder(float)  # of the anchors of the last map
    # The loss: tf (V3: focal), tf_v2 (hard negatives), torchvision or mobilenext; unset: the head's. Each has its own
    # values of the fields below, see mobilenets_jax/training/detection.py.
    config.detection.loss = placeholder(str)
    config.detection.classification = placeholder(str)  # focal, sigmoid or softmax
    config.detection.alpha = placeholder(float)  # focal: weight of positive targets; negative ones have 1 - alpha
    config.detection.gamma = placeholder(float)  # focal: exponent of (1 - probability of the target)
    config.detection.background_target = placeholder(bool)  # focal, sigmoid: the background is a class of the loss
    config.detection.negatives_per_positive = placeholder(float)  # of hard negatives; unset: the loss's own, or all
    config.detection.min_negatives = placeholder(int)  # of each image
    config.detection.localization_delta = placeholder(float)  # error from which smooth L1 is linear, not quadratic
    config.detection.class_weight = placeholder(float)
    config.detection.box_weight = placeholder(float)
    config.detection.match_threshold = placeholder(float)  # least intersection over union of a box and its anchors
    config.detection.last_wins = placeholder(bool)  # if two boxes have the same best anchor, the last one gets it
    config.detection.per_replica_normalization = placeholder(bool)  # by the matches on a device, not in the batch
    # How detections are selected.
    config.detection.score_threshold = placeholder(float)
    config.detection.iou_threshold = placeholder(
        float
    )  # a box that overlaps a better one of its class by more is dropped
    config.detection.candidates_per_class = placeholder(int)  # number of boxes with the best scores to consider
    config.detection.max_detections = placeholder(int)  # of each image; COCO's AP counts 100
    config.detection.max_per_class = placeholder(int)  # of each class in an image


TASK_FIELDS = {
    'classification': _add_classification,
    'segmentation': _add_segmentation,
    'detection': _add_detection,
}
