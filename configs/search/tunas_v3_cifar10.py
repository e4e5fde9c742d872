"""TuNAS's search with shared weights around MobileNetV3-Small, at 32 px on CIFAR-10.

Paper: 2008.06120 (the search); 1905.02244 (the network that the space is around).
Command: python -m mobilenets_jax search --config=configs/search/tunas_v3_cifar10.py --workdir=runs/tunas
    --config.data.dir=DIR --target_ms=12
Hardware: one CPU core of two, the other with other work: 12 minutes.
Expected: found.json, a network of 13.9 predicted milliseconds for --config.model.spec_file.
Status: reproduced here.

DIR is as for configs/cifar10.py. The latency is that of the network with all strides at 224 px.
"""

from configs.search import tunas_cifar10

# Half of the width, three quarters or all of it; at least twice the input in each expansion.
OPTIONS = (
    ('^stage./width$', (0.5, 0.75, 1.0)),
    ('/kernel$', (3, 5)),
    ('^layer0[12]/expanded$', (32, 48, 72)),
    ('^layer0[34]/expanded$', (48, 72, 96)),
    ('^layer0[567]/expanded$', (80, 120, 160, 240)),
    ('^layer0[89]/expanded$', (96, 144, 192, 288)),
    ('^layer1./expanded$', (192, 288, 384, 576)),
    ('^layer0[123]/activation$', ('relu',)),
    ('^layer(0[4-9]|1.)/activation$', ('hard_swish',)),
)


def get_config():
    """A part of the space whose networks can share weights, of the published nonlinearities."""
    config = tunas_cifar10.get_config()
    config.search.space = 'mobilenet_v3_small'
    config.search.options = OPTIONS
    config.search.latency_image_size = 224
    config.num_epochs = 6.0
    config.model.width_multiplier = 1.0
    config.model.num_removed_strides = 1
    config.model.bn_momentum = 0.9  # statistics must keep up with 390 steps an epoch
    return config
