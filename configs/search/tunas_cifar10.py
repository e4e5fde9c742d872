"""TuNAS's search with shared weights over ProxylessNAS's space, at 32 px on CIFAR-10.

Paper: 2008.06120 (the search: 90 epochs of ImageNet in batches of 4096); 1812.00332 (the space).
Command: python -m mobilenets_jax search --config=configs/search/tunas_cifar10.py --workdir=runs/tunas
    --config.data.dir=DIR --target_ms=T
Hardware: anything; a step trains the largest network, whatever is drawn.
Expected: found.json, a network of about T milliseconds for --config.model.spec_file.
Status: not yet tried.

DIR is as for configs/cifar10.py. The latency is that of the network as it is trained, at 32 px and this width: T is
from 2 to 24, half of all networks take less than 7.5.
"""

from configs.search import common


def get_config():
    """The weights as in configs/cifar10.py; every network at a quarter of its width."""
    config = common.get_weight_sharing()
    config.search.held_out_percent = 25.0  # 32 of a batch of 128, to reward its network by

    config.batch_size = 128
    config.image_size = 32
    config.num_epochs = 20.0
    config.label_smoothing = 0.1
    config.model.width_multiplier = 0.25
    config.model.num_removed_strides = 2

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

    config.log.every_steps = 50
    config.evaluation.every_epochs = 1.0
    config.checkpoint.every_epochs = 1.0
    return config
