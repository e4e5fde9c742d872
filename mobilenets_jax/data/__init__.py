"""Classification data: exact, deterministic and resumable input, from memory, image folders and TFDS.

    dataset = create_dataset('digits', image_size=32, batch_size=64, seed=0)
    for batch in dataset.train_batches(Layout(process_index=0, process_count=1, local_device_count=8)): ...

The order of the examples is a function of the seed alone (`order`), every random choice one of (seed, epoch, index of
the example), so runs can be stopped, resumed and laid out on other hosts without changing what the model sees.
TensorFlow is imported by the sources that read files, when they are created, and by nothing else.
"""

from mobilenets_jax.data import augmentation
from mobilenets_jax.data.dataset import Dataset, Options
from mobilenets_jax.data.order import Layout
from mobilenets_jax.errors import UserError, check, check_choice

__all__ = ['Dataset', 'Layout', 'create_dataset']

SOURCES = ('digits', 'image_folder', 'tfds:NAME')


def create_dataset(
    name: str, *, image_size: int, batch_size: int, seed: int, normalization: str = 'symmetric'
) -> Dataset:
    """Opens a data set and checks it; nothing is read for training or evaluation yet.

    Args:
        name: 'digits' (embedded).
        image_size: height and width of the images that the model sees, in pixels.
        batch_size: global batch size, over all processes and devices.
        seed: seed of the order and of the augmentation, 0 <= seed < 2**31.
        normalization: 'symmetric' ([-1, 1]) or 'imagenet' (mean and standard deviation per channel).

    Raises:
        UserError: an unknown choice.
    """
    check(image_size > 0, 'image_size', image_size, 'must be positive')
    check(batch_size > 0, 'batch_size', batch_size, 'must be positive')
    check(0 <= seed < 2**31, 'seed', seed, 'must lie in [0, 2**31)')
    check_choice('data.normalization', normalization, augmentation.NORMALIZATIONS)
    options = Options(image_size, batch_size, seed, normalization)
    if name == 'digits':
        from mobilenets_jax.data import digits

        return digits.create(options)
    raise UserError(f'data.name={name!r} is unknown. Known: {", ".join(SOURCES)}.')
