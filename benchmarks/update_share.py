"""What sharding optimizer state and averages over the devices could save at most, in memory and in time.

`PYTHONPATH=. python benchmarks/update_share.py`: MobileNetV3-Large with RMSProp and averages, a whole step against the
update alone.
"""

import statistics
import time

import jax
import numpy as np
import optax

from mobilenets_jax.models import create_model
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.optimizers import WeightDecayOptions
from mobilenets_jax.training.state import create_state, make_init
from mobilenets_jax.training.step import make_train_step

IMAGE_SIZE, IMAGES_PER_DEVICE, REPETITIONS = 224, 16, 7
EMA = EmaOptions(decay=0.9999)
OPTIMIZER = optax.rmsprop(0.01, decay=0.9, momentum=0.9, eps=0.002, initial_scale=1.0)


def update(state, batch):
    """The part of a step that sharding would divide among the devices: optimizer and averages."""
    updates, opt_state = OPTIMIZER.update(state.params, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    averages = EMA.update(state.ema_params, params, state.step)
    return state.replace(params=params, opt_state=opt_state, ema_params=averages), batch['label'].sum()


def seconds(step, state, batch) -> float:
    """Median time of a step, after the first."""
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, batch))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Prints both shares."""
    model = create_model('mobilenet_v3_large', num_classes=1000)
    task = ClassificationTask(model=model, preprocess=lambda batch, train: batch['image'])
    init = make_init(model, OPTIMIZER, image_size=IMAGE_SIZE, ema=EMA)
    shape = (jax.local_device_count(), IMAGES_PER_DEVICE)
    images = np.random.default_rng(0).normal(size=(*shape, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    (batch,) = parallel.put_batches([{'image': images, 'label': np.zeros(shape, np.int32)}])
    train_step = make_train_step(task, OPTIMIZER, ema=EMA, weight_decay=WeightDecayOptions(rate=0.0), seed=0)
    state = create_state(init, seed=0)
    sharded = sum(leaf.nbytes for leaf in jax.tree.leaves((state.opt_state, state.ema_params)))
    # Both donate the state, so each is given its own copy.
    whole = seconds(parallel.parallel_train_step(train_step), parallel.replicate(state), batch)
    alone = seconds(parallel.parallel_train_step(update), parallel.replicate(create_state(init, seed=0)), batch)
    print(f'optimizer state and averages: {sharded / 1e6:.1f} MB on each device')
    print(f'{IMAGES_PER_DEVICE} images a device: update {1000 * alone:.1f} ms of {1000 * whole:.0f} ms')
    at_128 = whole * 128 / IMAGES_PER_DEVICE
    print(f'at 128 images a device, if the rest grows with them: {100 * alone / at_128:.2f} % of a step')


if __name__ == '__main__':
    main()
