"""`weights` and `predict` from the command line."""

import functools
import json

import jax
import numpy as np
import pytest
import weight_files
from PIL import Image
from source_arrays import source_arrays

from mobilenets_jax.__main__ import main
from mobilenets_jax.tasks.image_files import read_image
from mobilenets_jax.weights import CARDS, load_pretrained


def test_weights_lists_the_cards(capsys):
    assert main(['weights', 'torchvision', 'v3_large']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ['weights', 'network', 'width', 'size']
    assert [line.split()[0] for line in lines[1:3]] == [
        'torchvision:mobilenet_v3_large.IMAGENET1K_V1',
        'torchvision:mobilenet_v3_large.IMAGENET1K_V2',
    ]
    assert lines[2].split()[1:] == [
        'mobilenet_v3_large',
        '1',
        '224',
        'of',
        '232',
        '75.3',
        '92.6',
        '-',
        '-',
        '-',
        'BSD-3-Clause',
    ]
    assert main(['weights', '--json']) == 0
    cards = json.loads(capsys.readouterr().out)
    assert len(cards) == len(CARDS) and all(card['bn_epsilon'] in (1e-3, 1e-5) for card in cards)
    assert main(['weights', 'v9']) == 2
    assert capsys.readouterr().err == "error: no weights have 'v9' in their name or network.\n"


@pytest.fixture
def weights(tmp_path):
    _, arrays = source_arrays('torchvision', 'mobilenet_v2', 0.1)
    path = tmp_path / 'weights.safetensors'
    weight_files.write_safetensors(path, {name: 0.01 * array for name, array in arrays.items()})
    return str(path)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)).save(path)
    return str(path)


def test_predict_prints_and_draws(weights, photo, tmp_path, capsys):
    out = tmp_path / 'out.png'
    assert main(['predict', photo, photo, f'--weights={weights}', '--top=3', '--json', f'--out={out}']) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == second and first['image'] == photo and len(first['classes']) == 3
    pretrained = load_pretrained(weights)
    pixels = read_image(photo, pretrained.card.preprocessing)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    apply = jax.jit(functools.partial(pretrained.model.apply, train=False))
    logits = np.asarray(apply(pretrained.variables, ((pixels / 255 - mean) / std)[np.newaxis])[0][0])
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for entry, index in zip(first['classes'], np.argsort(-expected, kind='stable'), strict=False):
        assert entry['probability'] == pytest.approx(expected[entry['class']], rel=1e-4)
        assert expected[index] == pytest.approx(expected[entry['class']], rel=1e-4)
    with Image.open(out) as image:
        assert image.size == (960, 640)


def test_one_logit_is_a_sigmoid(photo, tmp_path, capsys):
    _, arrays = source_arrays('torchvision', 'mobilenet_v2', 0.1, num_classes=1)
    arrays = {name: np.zeros_like(array) for name, array in arrays.items()} | {
        'classifier.1.weight': np.ones((1, 1280), np.float32),  # of features that are 0
        'classifier.1.bias': np.array([-2.0], np.float32),
    }
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    assert main(['predict', photo, f'--weights={tmp_path / "weights.safetensors"}', '--json']) == 0
    output = capsys.readouterr()
    classes = json.loads(output.out)[0]['classes']
    assert [entry['class'] for entry in classes] == [0, 1]
    np.testing.assert_allclose([entry['probability'] for entry in classes], [0.8807971, 0.1192029], rtol=1e-5)
    assert 'its one logit is taken for a sigmoid of class 1' in output.err
    assert load_pretrained(str(tmp_path / 'weights.safetensors'), num_classes=1).model.num_classes == 1


def test_predict_says_what_is_wrong(weights, photo, tmp_path, capsys):
    assert main(['predict', photo, '--top=0', f'--weights={weights}']) == 2
    assert capsys.readouterr().err == 'error: --top=0 must be positive.\n'
    (tmp_path / 'text.jpg').write_text('no image')
    for arguments, message in (
        (['missing.jpg'], "image 'missing.jpg' cannot be read: No such file or directory."),
        ([str(tmp_path / 'text.jpg')], 'cannot be read: it is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM'),
        ([photo, f'--out={tmp_path}/none/out.png'], 'cannot be written'),
    ):
        assert main(['predict', *arguments, f'--weights={weights}']) == 2
        error = capsys.readouterr().err
        note, line = error.splitlines()
        assert message in line and "assumed: 224 px, the range 'imagenet'" in note


def test_predict_draws_what_the_network_sees(weights, tmp_path, capsys):
    """A phone's photo with an EXIF rotation, which is applied to neither input nor picture; one line says it."""
    pixels = np.full((60, 80, 3), 255, np.uint8)
    pixels[:, :40, 1:] = 0
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / 'turned.jpg', exif=exif)
    Image.fromarray(pixels).save(tmp_path / 'plain.jpg')
    answers = []
    for name, lines in (('turned', 1), ('plain', 0)):
        out = tmp_path / f'{name}.png'
        assert main(['predict', str(tmp_path / f'{name}.jpg'), f'--weights={weights}', '--json', f'--out={out}']) == 0
        captured = capsys.readouterr()
        assert captured.err.count('1 image has an EXIF orientation, which is not applied') == lines
        answers.append(json.loads(captured.out)[0]['classes'])
        with Image.open(out) as image:
            red, green, blue = np.moveaxis(np.asarray(image.convert('RGB')).astype(int), -1, 0)
        height, width = np.ptp(np.argwhere((red > 200) & (green < 60) & (blue < 60)), axis=0)
        assert height > 1.3 * width  # The left half of a photo that is wider than high is red.
    assert answers[0] == answers[1]
