"""TuNAS's search with shared weights over ProxylessNAS's space, at 32 px on CIFAR-10.

Paper: 2008.06120 (the search: 90 epochs of ImageNet in batches of 4096); 1812.00332 (the space).
Command: python -m mobilenets_jax search --config=configs/search/tunas_cifar10.py --workdir=runs/tunas
    --config.data.dir=DIR --target_ms=T
Hardware: anything; a step trains the largest network, whatever is drawn.
Expected: found.json, a network of about T milliseconds for --config.model.spec_file.
Status: not yet tried to the end.

DIR is as for configs/cifar10.py. The latency is that of the network as it is trained, at 32 px and this width.
"""

from ml_collections.config_dict import placeholder

from configs.search import common


def get_config():
    """The weights as in configs/cifar10.py; every network at a quarter of its width."""
    config = common.get_config('weight_sharing')
    config.search.space = 'proxylessnas'  # instead of model.name
    config.search.options = ()  # (pattern, options): choices whose name has the pattern have these options alone
    config.search.reward = 'absolute'  # absolute (TuNAS's), hard or soft (MnasNet's)
    config.search.exponent = placeholder(float)  # how much latency counts, negative; unset: the paper's
    config.search.learning_rate = 0.01  # of the controller
    config.search.baseline_decay = 0.95  # of the moving average of the rewards
    config.search.held_out_percent = 25.0  # of the training images; a batch has so many to reward its networks by
    # So long the controller does not learn, and options give way to the largest ones with a falling probability.
    config.search.warmup_steps = placeholder(int)
    config.search.warmup_epochs = placeholder(float)
    config.search.warmup_examples = placeholder(int)
    config.search.warmup_percent = placeholder(float)
    config.search.warmup_percent = 25.0

    config.batch_size = 128
    config.image_size = 32
    config.num_epochs = 20.0
    config.label_smoothing = 0.1
    config.model.width_multiplier = 0.25
    config.model.dropped_strides = 2
    config.model.dropout_rate = 0.0

    config.data.name = 'memory_folder'
    config.data.normalization = 'imagenet'

    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.1
    config.schedule.learning_rate_batch_size = 128
    config.schedule.warmup_percent = 5.0
    config.weight_decay.rate = 1e-4
    config.weight_decay.skip = ('/bn/', '/bias$', '/depthwise/')
    config.ema.decay = 0.0  # weights that no network is evaluated with need no average

    config.log.every_steps = 50
    config.evaluation.every_epochs = 1.0
    config.checkpoint.every_epochs = 1.0
    config.checkpoint.keep_best = False  # the last state decides
    return config
