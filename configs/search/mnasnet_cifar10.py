"""MnasNet's search on CIFAR-10: networks of its space are trained one by one, for two epochs each.

Paper: 1807.11626 (8,000 networks, five epochs of ImageNet each).
Command: python -m mobilenets_jax search --config=configs/search/mnasnet_cifar10.py --workdir=runs/mnasnet
    --config.data.dir=DIR --target_ms=T
Hardware: anything; a device trains a network at a time, and compiles each.
Expected: found.json, the network of the best reward, for --config.model.spec_file.
Status: not yet tried.

DIR is as for configs/cifar10.py. The latency is that of the network at 224 px with all strides: T is from 5 to 100, and
half of all networks take less than 21. 100 networks are far too few for REINFORCE, see docs/search.md: evolution and
random are the better controllers at this size.
"""

from configs.search import common


def get_config():
    """The weights as in configs/cifar10.py; every network at half of its width."""
    config = common.get_stand_alone()
    config.search.controller = 'evolution'
    config.search.population = 16
    config.search.tournament = 4
    config.search.reward = 'hard'  # which is the accuracy, as no network is slower than the target
    config.search.latency_image_size = 224
    config.search.held_out_percent = 10.0

    config.batch_size = 128
    config.image_size = 32
    config.num_epochs = 2.0  # of each network
    config.label_smoothing = 0.1
    config.model.width_multiplier = 0.5
    config.model.num_removed_strides = 2
    config.model.dropout_rate = 0.0
    config.model.bn_momentum = 0.9  # statistics must keep up with a short training

    config.data.name = 'memory_folder'
    config.data.normalization = 'imagenet'

    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.1
    config.schedule.learning_rate_batch_size = 128
    config.schedule.warmup_percent = 15.0
    config.weight_decay.rate = 5e-4
    config.weight_decay.skip = ('/bn/', '/bias$', '/depthwise/')
    config.ema.decay = 0.0

    config.log.every_steps = 100
    return config
