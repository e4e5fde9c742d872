"""TuNAS's search with shared weights over ProxylessNAS's space, on ImageNet at the paper's size.

Paper: 2008.06120 (the search, with 84 ms as its target); 1812.00332 (the space).
Command: python -m mobilenets_jax search --config=configs/search/tunas_imagenet.py --workdir=WORKDIR
    --config.data.dir=DATA_DIR --target_ms=T
Hardware: TPU v3 4x4 slice (32 cores); hours not measured.
Expected: found.json, a network of about T milliseconds for --config.model.spec_file.
Status: not yet tried.

The settings are those of google-research tunas/mobile_architecture_search.py@0c1bbe5, but for what is said below. T is
84 with TuNAS's own model of latency: --config.search.latency=tunas --config.search.latency_file=F, see docs/search.md.
"""

from configs.search import common


def get_config():
    """The recipe, row by row."""
    config = common.get_weight_sharing()
    config.search.learning_rate = 0.015  # TuNAS: from 0.0048 to 0.048 over the search
    config.search.held_out_percent = 12.5  # 16 of a core's 128; TuNAS: 4 %, in batches of 512 a core

    config.batch_size = 4096  # 32 cores x 128
    config.image_size = 224
    config.num_epochs = 90.0
    config.label_smoothing = 0.1
    config.model.dtype = 'bfloat16'

    config.data.name = 'tfds:imagenet2012'
    config.optimizer.name = 'rmsprop'
    config.optimizer.decay = 0.9
    config.optimizer.momentum = 0.9
    config.optimizer.epsilon = 1.0
    config.schedule.name = 'cosine'
    config.schedule.learning_rate = 0.165
    config.schedule.learning_rate_batch_size = 256
    config.schedule.warmup_percent = 2.5
    config.weight_decay.rate = 3e-5
    config.weight_decay.skip = ('/bn/', '/bias$')

    config.log.every_steps = 100
    config.evaluation.every_epochs = 1.0
    config.checkpoint.every_epochs = 1.0
    return config
