"""What `create_dataset` refuses, in one line that names the field and the known choices."""

import subprocess
import sys

import pytest

from mobilenets_jax.data import create_dataset
from mobilenets_jax.errors import UserError


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'name': 'mnist'},
            "data.name='mnist' is unknown. Known: cityscapes, coco, digits, image_folder, mask_folder, memory_folder, "
            'records, tfds:NAME, tfds:cityscapes, tfds:coco, tfds:voc, voc, yolo.',
        ),
        ({'image_size': 0}, 'image_size=0 must be positive.'),
        ({'batch_size': -8}, 'batch_size=-8 must be positive.'),
        ({'seed': -1}, 'seed=-1 must be in [0, 2**31).'),
        ({'normalization': 'torch'}, "data.normalization='torch' is unknown. Known: imagenet, symmetric, unit."),
        ({'train_crop': 'random'}, "data.train_crop='random' is unknown. Known: inception, random_resized, resize."),
        ({'color_distortion': 'slow'}, "data.color_distortion='slow' is unknown. Known: fast, full, none."),
        (
            {'eval_crop': 'center'},
            "data.eval_crop='center' is unknown. Known: central_fraction, resize_crop, rounded_resize_crop.",
        ),
        ({'interpolation': 'area'}, "data.interpolation='area' is unknown. Known: bicubic, bilinear."),
        ({'crop_fraction': 1.5}, 'data.crop_fraction=1.5 must be in (0, 1].'),
        ({'min_area_fraction': 0.0}, 'data.min_area_fraction=0.0 must be in (0, 1].'),
        ({'num_threads': -1}, 'data.num_threads=-1 must not be negative.'),
        (
            {'auto_augment': 'v0'},
            "data.auto_augment='v0' is unknown. Known: autoaugment_v0, none, randaugment, trivialaugment_wide.",
        ),
        ({'randaugment_layers': 0}, 'data.randaugment_layers=0 must be positive.'),
        ({'randaugment_magnitude': 11.0}, 'data.randaugment_magnitude=11.0 must be in [0, 10].'),
        ({'randaugment_magnitude_std': -1.0}, 'data.randaugment_magnitude_std=-1.0 must not be negative.'),
        ({'repeated_augmentation': 3}, 'data.repeated_augmentation=3 must divide the batch_size 8.'),
        ({'random_erasing': 1.5}, 'data.random_erasing=1.5 must be in [0, 1].'),
        ({'random_erasing_fill': 'grey'}, "data.random_erasing_fill='grey' is unknown. Known: noise, zero."),
        ({'mixup_alpha': -0.1}, 'data.mixup_alpha=-0.1 must not be negative.'),
        ({'cutmix_alpha': -0.1}, 'data.cutmix_alpha=-0.1 must not be negative.'),
        ({'skip_bad_records': -1}, 'data.skip_bad_records=-1 must not be negative.'),
    ],
)
def test_wrong_values(changes, message):
    arguments = {'name': 'image_folder', 'directory': '/', 'image_size': 32, 'batch_size': 8, 'seed': 0}
    with pytest.raises(UserError) as error:
        create_dataset(**arguments | changes)
    assert str(error.value) == message


def test_choice_that_no_source_has():
    with pytest.raises(TypeError, match='^no data set has the choice crops$'):
        create_dataset('digits', image_size=32, batch_size=8, seed=0, crops='inception')


def test_missing_tensorflow_is_named():
    code = """
import sys
sys.modules['tensorflow'] = None  # Importing it now raises ModuleNotFoundError.
from mobilenets_jax.data import create_dataset
from mobilenets_jax.errors import UserError
try:
    create_dataset('image_folder', directory='/', image_size=32, batch_size=8, seed=0)
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert result.stdout == "data.name='image_folder' needs the Python package tensorflow, which is not installed.\n"
