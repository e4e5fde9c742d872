"""NetAdapt on CIFAR-10, from a trained classifier: channels go where they cost least accuracy for the time they save.

Paper: 1905.02244 section 4.2 (of ImageNet: 10,000 steps of each candidate, which saves 1 % of the latency at least).
Command: python -m mobilenets_jax search --config=configs/search/netadapt_cifar10.py --workdir=runs/netadapt
    --config.init_from=runs/small --config.data.dir=DIR --target_ms=13.08
Hardware: two CPU cores, with other work on them: 23 minutes for thirteen rounds.
Expected: found.json, a network of 12.93 predicted milliseconds for --config.model.spec_file.
Status: reproduced here.

DIR is as for configs/cifar10.py, with which runs/small was trained. The network and its input are that run's. The
latency is that of the network with all strides at 224 px.
"""

from configs.search import common


def get_config():
    """Short trainings at a small constant rate, without averages."""
    config = common.get_config('netadapt')
    config.search.saved_percent = 4.0  # of the first latency: what a candidate saves at least; the paper's is 1
    config.search.latency_image_size = 224
    config.init_from = ''  # given by the command

    config.batch_size = 128
    config.image_size = 32
    config.num_steps = 30  # of each candidate
    config.label_smoothing = 0.1
    config.model.dropout_rate = 0.0
    config.model.bn_momentum = 0.9  # statistics must keep up with a short training

    config.data.name = 'memory_folder'

    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.schedule.name = 'constant'
    config.schedule.learning_rate = 0.01
    config.weight_decay.rate = 5e-4
    config.weight_decay.skip = ('/bn/', '/bias$', '/depthwise/')
    config.ema.decay = 0.0
    return config
