"""MnasNet's search on ImageNet at the paper's size: 8,000 networks of its space, five epochs each.

Paper: 1807.11626 sections 4 and 5 (64 TPU v2 for 4.5 days; 75 ms of a Pixel 1; 50,000 training images held out).
Command: python -m mobilenets_jax search --config=configs/search/mnasnet_imagenet.py --workdir=WORKDIR
    --config.data.dir=DATA_DIR --target_ms=T
Hardware: a TPU slice of any size; hours not measured. 8,000 x 5 epochs are 49e9 images, 114 trainings of 350 epochs.
Expected: found.json, the network of the best reward, for --config.model.spec_file.
Status: not yet tried.

T is 75 in the paper. The training is that of its section 5, which does not say how the short ones differ; each network
is trained on one core, so that the batch is smaller and the rate scaled.
"""

from configs.search import common


def get_config():
    """The recipe, row by row."""
    config = common.get_stand_alone()
    config.search.num_networks = 8000
    config.search.networks_per_update = 64
    config.search.learning_rate = 0.02  # not the paper's, whose controller is a recurrent network
    config.search.held_out_percent = 0.0  # it is a part of the training set that stands for the evaluation set

    config.batch_size = 256  # on one core; the paper's 4096 is that of a whole training
    config.image_size = 224
    config.num_epochs = 5.0  # of each network
    config.label_smoothing = 0.1
    config.model.dtype = 'bfloat16'
    config.model.dropout_rate = 0.2
    config.model.bn_momentum = 0.99

    config.data.name = 'tfds:imagenet2012'
    config.data.train_split = 'train[4%:]'
    config.data.eval_split = 'train[:4%]'  # 51,247 images

    config.optimizer.name = 'rmsprop'
    config.optimizer.decay = 0.9
    config.optimizer.momentum = 0.9
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.256
    config.schedule.learning_rate_batch_size = 4096
    config.schedule.warmup_percent = 10.0
    config.weight_decay.rate = 1e-5
    config.weight_decay.skip = ('/bn/', '/bias$')
    config.ema.decay = 0.0

    config.log.every_steps = 1000
    return config
