"""The embedded digits: fixed data and split, exact batches, augmentation that depends on the example alone."""

import hashlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy import ndimage

from mobilenets_jax.data import Layout, create_dataset, digits
from mobilenets_jax.errors import UserError

# SHA-256 of the split's images and labels, and of the 32 pixel training images.
SPLIT_SHA256 = 'e2473b2a502800d829a48a366e6ef6870f696e1c687b2f419fc9ce6d6124b1a8'
IMAGES_SHA256 = 'e4fb5f96f439e3e2ff8eaf483fdd9e4689ee5c58346c68029c59dbdf5abc43b1'


def make(batch_size=64, seed=0, **kwargs):
    return create_dataset('digits', image_size=32, batch_size=batch_size, seed=seed, **kwargs)


def flat(batch):
    return {key: value.reshape(-1, *value.shape[2:]) for key, value in batch.items()}


def sha256(*arrays):
    return hashlib.sha256(b''.join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def test_split_is_golden_and_stratified():
    train_images, test_images, train_labels, test_labels = digits.load_split()
    arrays = [array.astype(np.uint8) for array in (train_images, test_images, train_labels, test_labels)]
    assert sha256(*arrays) == SPLIT_SHA256
    assert len(train_labels) == 1437 and len(test_labels) == 360
    both = np.concatenate([train_labels, test_labels])
    assert np.abs(np.bincount(test_labels) - np.bincount(both) * 360 / 1797).max() < 1


def test_dataset_describes_itself():
    dataset = make()
    assert (dataset.name, dataset.num_classes, dataset.class_names) == ('digits', 10, tuple('0123456789'))
    assert (dataset.num_train, dataset.num_eval, dataset.image_size) == (1437, 360, 32)


def test_upsampled_pixels():
    train_images = digits.load_split()[0]
    images = digits.upsample(train_images, 32)
    assert images.shape == (1437, 32, 32, 3) and images.dtype == np.uint8
    assert sha256(images) == IMAGES_SHA256
    for image, source in zip(images[:20], train_images, strict=False):
        expected = ndimage.zoom(source * 255 / 16, 4, order=1, mode='nearest', grid_mode=True)
        assert np.abs(image - expected[..., None]).max() <= 1.5  # Three roundings: the source and both passes.


def test_train_batch():
    batch = next(make().train_batches(Layout(0, 1, 8)))
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        'image': ((8, 8, 32, 32, 3), 'uint8'),
        'label': ((8, 8), 'int32'),
        'epoch': ((8, 8), 'int32'),
        'index': ((8, 8), 'int32'),
    }
    _, _, labels, _ = digits.load_split()
    assert np.array_equal(batch['label'], labels[batch['index']])


@pytest.mark.parametrize(('processes', 'devices'), [(1, 1), (1, 8), (2, 2), (4, 1)])
def test_evaluation_is_exact(processes, devices):
    batches = [list(make().eval_batches(Layout(p, processes, devices))) for p in range(processes)]
    rows = [flat(batch) for step in zip(*batches, strict=True) for batch in step]
    mask = np.concatenate([batch['mask'] for batch in rows]) == 1
    labels, images = (np.concatenate([batch[key] for batch in rows])[mask] for key in ('label', 'image'))
    _, test_images, _, test_labels = digits.load_split()
    assert mask.sum() == 360
    assert np.array_equal(labels, test_labels)
    assert np.array_equal(images, digits.upsample(test_images, 32))


def preprocessed(dataset, batch):
    """The augmented images [rows, H, W, 3], preprocessed a device at a time as in the training step."""
    preprocess = jax.jit(lambda rows: dataset.device_preprocess(rows, train=True))
    devices = len(batch['label'])
    return np.concatenate([preprocess({key: value[i] for key, value in batch.items()}) for i in range(devices)])


def test_augmented_pixels_do_not_depend_on_layout_or_restart():
    dataset = make()
    straight = dataset.train_batches(Layout(0, 1, 1), start=1437 - 96)
    next(straight)
    expected = preprocessed(dataset, next(straight))  # The last 32 examples of an epoch and the first of the next.
    for processes, devices in [(1, 8), (2, 2)]:
        parts = [
            preprocessed(make(), next(make().train_batches(Layout(p, processes, devices), start=1437 - 32)))
            for p in range(processes)
        ]
        assert np.array_equal(np.concatenate(parts), expected)


def test_augmentation_changes_with_seed_and_epoch():
    batch = flat(next(make().train_batches(Layout(0, 1, 1))))
    images = [
        make(seed=0).device_preprocess(batch, train=True),
        make(seed=1).device_preprocess(batch, train=True),
        make(seed=0).device_preprocess(batch | {'epoch': batch['epoch'] + 1}, train=True),
        make(seed=0).device_preprocess(batch, train=False),
    ]
    for i, first in enumerate(images):
        for second in images[:i]:
            assert np.abs(first - second).max(axis=(1, 2, 3)).min() > 0.1  # Every example differs.


def test_held_out_images_are_training_images_and_trained_on_no_more():
    """A tenth of them, in the place of the test images; which ones depends on the seed alone."""
    whole, layout = make(batch_size=1437), Layout(0, 1, 1)
    held_out = whole.holding_out(10.0)
    assert (held_out.num_train, held_out.num_eval) == (1293, 144)

    def rows(batch):
        return sorted(image.tobytes() for image, real in zip(batch['image'][0], batch['mask'][0], strict=True) if real)

    (evaluated,) = held_out.eval_batches(layout)
    trained = next(held_out.train_batches(layout))
    trained['mask'] = (np.arange(1437) < 1293)[None]  # an epoch, and the beginning of the next
    everything = next(whole.train_batches(layout))
    everything['mask'] = np.ones((1, 1437))
    assert sorted(rows(evaluated) + rows(trained)) == rows(everything)
    for batch_size, seed, same in ((200, 0, True), (200, 1, False)):
        (again,) = make(batch_size=batch_size, seed=seed).holding_out(10.0).eval_batches(layout)
        assert (rows(again) == rows(evaluated)) is same
    with pytest.raises(UserError, match='search.held_out_percent=0.01 are 0 of 1437 images'):
        whole.holding_out(0.01)


def test_source_on_the_host_says_what_to_do_in_place_of_holding_out():
    imagenet = create_dataset('tfds:imagenet2012', image_size=32, batch_size=8, seed=0, shapes_only=True)
    with pytest.raises(UserError, match=r"data.name='tfds:imagenet2012' cannot hold .* search.held_out_percent=0"):
        imagenet.holding_out(5.0)


def test_runs_where_tensorflow_cannot_be_imported():
    code = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('tensorflow', 'tensorflow_datasets'):
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
from mobilenets_jax.data import Layout, create_dataset
dataset = create_dataset('digits', image_size=32, batch_size=8, seed=0)
batch = next(dataset.train_batches(Layout(0, 1, 1)))
images = dataset.device_preprocess({key: value[0] for key, value in batch.items()}, train=True)
print(images.shape, sum(int(batch['mask'].sum()) for batch in dataset.eval_batches(Layout(0, 1, 1))))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert result.stdout == '(8, 32, 32, 3) 360\n'
