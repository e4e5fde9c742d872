"""The example of features in docs/weights.md runs as it is printed, and gives the endpoints of the loaded weights."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
import weight_files
from PIL import Image
from source_arrays import source_arrays

from mobilenets_jax.models.network import Backbone

PAGE = Path(__file__).parents[2] / 'docs' / 'weights.md'


@pytest.fixture(scope='module')
def names(tmp_path_factory):
    """What the example defines, of a file of weights and an image of this test."""
    folder = tmp_path_factory.mktemp('features')
    _, arrays = source_arrays('torchvision', 'mobilenet_v2', 0.1)
    weight_files.write_safetensors(folder / 'w.safetensors', {name: 0.01 * array for name, array in arrays.items()})
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    Image.fromarray(pixels).save(folder / 'photo.png')
    (example,) = re.findall('## Features.*?```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert example.count("'FILE_OR_NAME'") == example.count("'IMAGE'") == 1
    example = example.replace('FILE_OR_NAME', str(folder / 'w.safetensors'))
    names = {}
    exec(example.replace("'IMAGE'", repr(str(folder / 'photo.png'))), names)
    return names


def test_pooled_features_give_the_logits(names):
    """In float64 from the printed features and the classifier's own weights."""
    features, classifier = np.asarray(names['features'], np.float64), names['variables']['params']['logits']
    assert features.shape == (1, 1280)
    expected = features @ classifier['kernel'].astype(np.float64) + classifier['bias']
    np.testing.assert_allclose(names['logits'], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_backbone_alone_has_the_weights_at_another_stride(names):
    maps, model, images = names['maps'], names['model'], names['images']
    assert maps.shape == (1, 14, 14, 1280)
    variables, weights = names['variables'], names['weights']
    assert jax.tree.structure(weights['params']) == jax.tree.structure(variables['params']['backbone'])
    same = Backbone(model.spec, model.settings, output_stride=16).apply(weights, images, train=False)
    np.testing.assert_array_equal(same['C5'], maps)
    # Up to the stride of 16 nothing is dilated.
    expected = np.asarray(names['endpoints']['C4'])
    np.testing.assert_allclose(same['C4'], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 0
