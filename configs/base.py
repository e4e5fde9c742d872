"""Every field of a run, with its unit and meaning; an experiment's file overrides a few of them.

A duration is set in one of four spellings: `NAME_steps`, `NAME_epochs`, `NAME_examples` or `NAME_percent` (of the
run). A spelling on the command line replaces the file's. Where a comment says what 'unset' means, None unsets the
field. A field that is set and has no effect with the other choices (beta1 with rmsprop) ends the run.

The fields of `get_config` are those of every task; `TASK_FIELDS` has what a task adds.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from mobilenets_jax.errors import check_choice


def _durations(config: ml_collections.ConfigDict, name: str) -> None:
    for unit, kind in (('steps', int), ('epochs', float), ('examples', int), ('percent', float)):
        config[f'{name}_{unit}'] = placeholder(kind)


def get_config(task: str = 'classification') -> ml_collections.ConfigDict:
    """The fields of a task and their defaults; `--config=configs/base.py:TASK` takes them."""
    check_choice('task', task, TASK_FIELDS)
    config = ml_collections.ConfigDict()
    config.task = task  # what is learnt; a config's file decides it, as it decides which fields there are
    config.seed = 0  # of initial parameters, order of the data, augmentation and dropout
    config.batch_size = 4096  # global: over all devices of all hosts
    config.image_size = 224  # pixels, height and width
    config.num_steps = placeholder(int)  # length of the run: this or num_epochs
    config.num_epochs = placeholder(float)
    # Published weights (a file, or a name of `python -m mobilenets_jax weights`) or the workdir of a run to start from;
    # the network and the range of its input are theirs then (`identity.NETWORK_FIELDS`), unless the command line sets
    # them. '' draws the parameters.
    config.init_from = ''
    config.new_head = False  # with init_from: a fresh head, which another number of classes, or another task, needs
    # A step (the first one compiles), evaluation or save that takes longer ends the process with all threads' stacks.
    config.hang_timeout_seconds = 1800.0
    config.profile_steps = ''  # 'FIRST:LAST', counted from 1: a trace of these steps is written to WORKDIR/profile

    config.model = ml_collections.ConfigDict()
    config.model.name = 'mobilenet_v3_small'  # `python -m mobilenets_jax models` lists them
    config.model.spec_file = ''  # of a table in JSON (docs/search.md): the network and its name, in place of model.name
    config.model.table = ''  # what spec_file holds; it goes with every checkpoint, which needs the file no more
    config.model.width_multiplier = 1.0
    config.model.convention = 'tf'  # whose rounding, padding, constants: tf, torchvision, keras; of some timm, megvii
    config.model.num_classes = placeholder(int)  # unset: the data's
    config.model.tail = 'full'  # of V2 and V3 also detection or segmentation: half the channels behind the last stride
    config.model.dropped_strides = 0  # so many of the first strides are 1, for small images: 1 or 2 at 32 pixels
    config.model.output_stride = 32  # 8, 16 or 32: beyond it strides become dilations
    config.model.dropout_rate = placeholder(float)  # before the logits; unset: the paper's
    config.model.drop_path_rate = 0.0  # stochastic depth: residual block i of n (from 0) is skipped at i / n of it
    config.model.dtype = 'float32'  # of activations; parameters stay float32; float16 only to evaluate
    config.model.bn_momentum = placeholder(float)  # decay of running statistics; unset: the convention's
    config.model.bn_epsilon = placeholder(float)  # unset: the convention's
    config.model.divisor = placeholder(int)  # channels are rounded to multiples of it; unset: the convention's
    config.model.padding = placeholder(str)  # same (TensorFlow) or symmetric (PyTorch); unset: the convention's
    config.model.activation = placeholder(str)  # relu or relu6 in the place of both; unset: the table's own
    config.model.sync_bn = False  # batch statistics over all devices rather than each device's own

    config.data = ml_collections.ConfigDict()
    config.data.name = 'digits'  # digits, image_folder, memory_folder, records (see `prepare`), tfds:NAME
    config.data.dir = ''  # of the image folder, the records, or TFDS's data ('': TFDS's own)
    config.data.train_split = ''  # '': the source's default; 'train+val': both, of masks and boxes; TFDS: 'train[:80%]'
    config.data.eval_split = ''  # '': the source's default
    config.data.accept_changes = False  # a run goes on though its training data have other examples than it began with
    config.data.normalization = 'symmetric'  # symmetric ([-1, 1]), imagenet (mean and deviation) or unit ([0, 1])
    config.data.random_flip = True  # left to right; not of the digits, which have an augmentation of their own
    # Image folders, records and TFDS.
    config.data.num_threads = 0  # that decode; 0: as many as pay
    config.data.skip_bad_records = 0  # unreadable training examples that are replaced before one ends the run

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = 'rmsprop'  # rmsprop (TensorFlow's), sgd, adamw or lamb
    config.optimizer.momentum = 0.9  # rmsprop, sgd
    config.optimizer.nesterov = False  # rmsprop, sgd
    config.optimizer.decay = 0.9  # of the mean square: rmsprop
    config.optimizer.epsilon = 1e-3  # rmsprop (inside the root), adamw, lamb
    config.optimizer.beta1 = 0.9  # adamw, lamb
    config.optimizer.beta2 = 0.999  # adamw, lamb
    config.optimizer.clip_norm = placeholder(float)  # global gradient norm; unset: never clipped
    # (pattern, factor): parameters whose path has the pattern learn at that multiple of the rate; 0 freezes them. A
    # module without other parameters (a batch norm, a block, the backbone) runs as in evaluation then.
    config.optimizer.rate_factors = ()
    config.optimizer.layer_decay = 1.0  # the rate falls by this factor from block to block, from the head to the stem
    config.optimizer.accumulation_steps = 1  # each device's batch is taken in so many parts

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
    config.weight_decay.skip = ('/bn/', '/bias$')  # regular expressions found in a parameter's path

    config.ema = ml_collections.ConfigDict()
    config.ema.decay = 0.9999  # 0: no averages
    config.ema.ramp = True  # decay at most (1 + n) / (10 + n) at update n
    config.ema.batch_stats = True  # average the running statistics too

    config.log = ml_collections.ConfigDict()
    _durations(config.log, 'every')
    config.evaluation = ml_collections.ConfigDict()
    _durations(config.evaluation, 'every')
    config.checkpoint = ml_collections.ConfigDict()
    _durations(config.checkpoint, 'every')
    config.replica_check = ml_collections.ConfigDict()  # of the devices' copies of the state; before a save always
    _durations(config.replica_check, 'every')
    config.checkpoint.keep_last = 2
    config.checkpoint.keep_best = True
    TASK_FIELDS[task](config)
    return config


def _add_quantization(config: ml_collections.ConfigDict) -> None:
    config.quantization = ml_collections.ConfigDict()
    config.quantization.enabled = False  # weights and activations are rounded as in 8 bit, see docs/export.md
    config.quantization.range_momentum = 0.99  # decay of the activations' ranges, which each batch moves
    _durations(config.quantization, 'delay')  # nothing is rounded in training until then; unset: from the first step
    # From then on batch norms run by their running statistics, and these and the ranges stay; unset: never.
    _durations(config.quantization, 'freeze')


def _add_classification(config: ml_collections.ConfigDict) -> None:
    _add_quantization(config)
    config.distillation = ml_collections.ConfigDict()
    # A trained classifier with the data's classes that the network also learns from: a file of weights, a name of
    # `python -m mobilenets_jax weights`, or a run's workdir (its newest checkpoint) or checkpoint; '' for none.
    config.distillation.teacher = ''
    config.distillation.weight = 0.5  # of the loss by the teacher; that by the labels has 1 - weight
    config.distillation.targets = 'soft'  # the teacher's probabilities; hard: its likeliest class
    config.distillation.temperature = 1.0  # soft: all logits are divided by it, and the loss multiplied by its square
    config.label_smoothing = 0.0  # share of the target spread evenly over the classes
    config.data.repeated_augmentation = 1  # how many times an example stands in a batch, each time augmented anew
    config.data.random_erasing = 0.0  # probability that a rectangle of a training image is erased
    config.data.random_erasing_fill = 'zero'  # what is put there: zero (the mean colour) or noise
    config.data.mixup_alpha = 0.0  # of mixup's Beta(alpha, alpha) over neighbours of a batch; 0: none
    config.data.cutmix_alpha = 0.0  # of cutmix; with both, each pair gets one or the other
    config.data.shift_pixels = 4  # memory_folder: images are shifted by so many pixels at most
    # Image folders, records and TFDS.
    config.data.crop = 'inception'  # in training: inception, random_resized (torchvision) or resize (the whole image)
    config.data.min_area_fraction = placeholder(float)  # least part of the image in a crop; unset: 0.05 or 0.08
    config.data.color_distortion = 'fast'  # none, fast (brightness, saturation) or full (also hue, contrast)
    config.data.auto_augment = 'none'  # none, autoaugment_v0, randaugment or trivialaugment_wide
    config.data.randaugment_layers = 2  # operations on each image
    config.data.randaugment_magnitude = 9.0  # their mean strength, 0 to 10
    config.data.randaugment_magnitude_std = 0.5  # its standard deviation
    # central_fraction (TF), resize_crop (torchvision) or rounded_resize_crop (big_vision)
    config.data.eval_crop = 'central_fraction'
    config.data.crop_fraction = 0.875  # of the side, in evaluation
    config.data.interpolation = 'bilinear'  # of the resize_crops: bilinear or bicubic, antialiased as PIL's


def _add_segmentation_data(config: ml_collections.ConfigDict) -> None:
    with config.ignore_type():  # images of segmentation need not be square
        config.image_size = (513, 513)  # pixels, height and width, of the training crop
    config.data.mask_dir = ''  # mask_folder, voc: the folder of the masks, e.g. '{split}annot'; '': the source's own
    config.data.classes = ''  # names and values of the masks: camvid, voc or cityscapes; '': the source's own
    config.data.class_names = ()  # in the place of a class set: the names, by train id
    config.data.palette = ()  # RGB in 0 .. 255 of each class, for drawing; (): the class set's, or Pascal VOC's
    config.data.remap = ()  # (value of a mask file, train id), beside those of the class set
    config.data.ignore_labels = ()  # values of the mask files that are ignored, beside 255 and the class set's
    config.data.eval_size = ()  # (height, width) that evaluation images are padded to; (): the source's own
    # Pixels of the long side: images are resized to it and padded to a square, for networks that need it; masks never.
    config.data.eval_resize = 0
    config.data.augmentation = 'deeplab'  # deeplab or torchvision: how images are scaled; cropped to image_size
    config.data.min_scale = 0.5  # least factor by which images are scaled
    config.data.max_scale = 2.0  # largest
    config.data.scale_step = 0.25  # deeplab: distance between the factors; 0: any factor
    config.data.base_size = 520  # torchvision: pixels of the short side at factor 1
    config.data.color_distortion = 'none'  # none or photometric (SSD's: brightness, contrast, saturation, hue)


def _add_segmentation(config: ml_collections.ConfigDict) -> None:
    _add_segmentation_data(config)
    config.model.output_stride = 16
    config.segmentation = ml_collections.ConfigDict()
    config.segmentation.head = 'lr_aspp'  # lr_aspp, r_aspp or aspp, see mobilenets_jax/heads/aspp.py
    # Of the head; unset: deeplab's, or torchvision's with its convention.
    config.segmentation.filters = placeholder(int)  # channels of each branch: the V3 paper's F, 128 or 256
    config.segmentation.atrous_rates = placeholder(tuple)  # of aspp: of a 3x3 branch each
    config.segmentation.low = placeholder(str)  # of lr_aspp: the endpoint of its second logits, such as C2/depthwise
    config.segmentation.gate = placeholder(str)  # of lr_aspp: sigmoid or hard_sigmoid
    config.segmentation.pool_size = placeholder(int)  # of lr_aspp: height and width of the windows of the gate
    config.segmentation.pool_strides = placeholder(tuple)  # of lr_aspp: steps between them
    config.segmentation.align_corners = placeholder(bool)  # of every resize in the network
    config.segmentation.bn_momentum = placeholder(float)  # of the head's batch norms
    # Of the loss, by train id: the mean over the pixels weighs each by its class's; (): all the same.
    config.segmentation.class_weights = ()
    # In evaluation the probabilities are the mean over the images at these scales, each also mirrored if eval_flip.
    config.segmentation.eval_scales = (1.0,)
    config.segmentation.eval_flip = False


def _add_detection_data(config: ml_collections.ConfigDict) -> None:
    with config.ignore_type():  # images of detection need not be square
        config.image_size = (320, 320)  # pixels, height and width; the aspect of an image is not kept
    config.data.classes = ''  # coco or voc: only their classes, in their order; '': the source's own
    config.data.class_names = ()  # the same by the names themselves; VOC's and YOLO's sources may need them
    config.data.resize = 'half_pixel'  # half_pixel (TensorFlow 2, PyTorch) or legacy (TensorFlow 1, published SSDs)
    config.data.augmentation = 'tf'  # in training: none, tf (ssd_random_crop), torchvision (by IoU) or mobilenext
    config.data.color_distortion = 'none'  # none, photometric (SSD's) or mobilenext (also the order of the channels)
    config.data.max_boxes = placeholder(int)  # of a training example; more are an error; unset: the most there are
    config.data.keep_empty = True  # coco, voc, yolo: training images without a box are negatives, or left out
    config.data.train_difficult = False  # voc: boxes that are called difficult are learnt; evaluation ignores them
    config.data.coco_ids = 'contiguous'  # coco: labels count the classes; sparse: they are id - 1, as published
    config.data.annotation_file = 'annotations/instances_{split}.json'  # coco: in data.dir
    config.data.image_dir = '{split}'  # coco: in data.dir


def _add_detection(config: ml_collections.ConfigDict) -> None:
    _add_detection_data(config)
    del config.model.dropout_rate  # a detector has none
    config.detection = ml_collections.ConfigDict()
    config.detection.head = placeholder(str)  # tf, ssd, torchvision or mobilenext; unset: as model.convention
    config.detection.bn_momentum = placeholder(float)  # of the head's batch norms; unset: the head's, as all below
    config.detection.class_bias = placeholder(float)  # of all logits when training begins
    config.detection.min_scale = placeholder(float)  # of the anchors of the first map: side / side of the image
    config.detection.max_scale = placeholder(float)  # of the anchors of the last map
    # The loss: tf (V3: focal), tf_v2 (hard negatives), torchvision or mobilenext; unset: the head's. What it has
    # otherwise: see mobilenets_jax/training/detection.py.
    config.detection.loss = placeholder(str)
    config.detection.classification = placeholder(str)  # focal, sigmoid or softmax
    config.detection.alpha = placeholder(float)  # focal: weight of what is there; 1 - alpha that of what is not
    config.detection.gamma = placeholder(float)  # focal: exponent of the share that a prediction is wrong by
    config.detection.background_target = placeholder(bool)  # focal, sigmoid: background is learnt like a class
    config.detection.negatives_per_positive = placeholder(float)  # hard negatives: so many; unset: the loss's, or all
    config.detection.min_negatives = placeholder(int)  # of an image
    config.detection.localization_delta = placeholder(float)  # where smooth L1 goes over from a square to a line
    config.detection.class_weight = placeholder(float)
    config.detection.box_weight = placeholder(float)
    config.detection.match_threshold = placeholder(float)  # intersection over union of a box and its anchors
    config.detection.last_wins = placeholder(bool)  # of two boxes with one best anchor
    config.detection.per_replica_normalization = placeholder(bool)  # by the matches of a device, not of the batch
    # How detections are chosen.
    config.detection.score_threshold = placeholder(float)
    config.detection.iou_threshold = placeholder(float)  # a box that overlaps a better one of its class more is dropped
    config.detection.candidates_per_class = placeholder(int)  # with the best scores, that are looked at
    config.detection.max_detections = placeholder(int)  # of an image; COCO's AP counts 100
    config.detection.max_per_class = placeholder(int)  # of a class of an image


TASK_FIELDS = {
    'classification': _add_classification,
    'segmentation': _add_segmentation,
    'detection': _add_detection,
}
