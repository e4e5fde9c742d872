"""timm's ports of TensorFlow's weights are recognised: by config.json, by a checkpoint, by the file's name."""

import argparse
import json

import pytest
import weight_files
from source_arrays import source_arrays

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights import Preprocessing, load_pretrained

NAME = 'mobilenet_v3_small_minimalistic'
SYMMETRIC = {'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, 0.5]}


@pytest.fixture(scope='module')
def arrays():
    return source_arrays('timm', NAME, num_classes=6)[1]


@pytest.fixture
def load(arrays, tmp_path):
    def load(config=None, file_name='model.safetensors', **options):
        (tmp_path / 'config.json').write_text(json.dumps(config))
        weight_files.write_safetensors(tmp_path / file_name, arrays)
        return load_pretrained(str(tmp_path / file_name), **options)

    return load


def hub(architecture='tf_mobilenetv3_small_minimal_100', pretrained=SYMMETRIC, **fields):
    return {'architecture': architecture, 'num_classes': 6, 'pretrained_cfg': pretrained, **fields}


def test_the_config_beside_the_file_is_used_in_full(load, capsys):
    cfg = SYMMETRIC | {'input_size': [3, 160, 160], 'interpolation': 'bilinear', 'crop_pct': 0.9}
    model, _, card = load(hub(pretrained=cfg))
    assert (card.model, card.convention, model.settings.bn_epsilon) == (NAME, 'tf', 1e-3)
    assert model.settings.padding == 'same'
    assert card.preprocessing == Preprocessing(
        image_size=160, crop='resize_crop', crop_fraction=0.9, interpolation='bilinear', normalization='symmetric'
    )
    assert capsys.readouterr().err == ''
    cfg = {'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225], 'input_size': [3, 224, 224]}
    card = load(hub('mobilenetv3_small_minimal_100.mine', None, **cfg)).card  # fields of the older layout
    assert (card.convention, card.preprocessing.normalization) == ('timm', 'imagenet')


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (hub('hardcorenas_a'), 'says that it is the hardcorenas_a of timm, which this family does not have'),
        (hub('mobilenetv3_large_150d'), 'says that it is the mobilenetv3_large_150d of timm, which this family'),
        (hub('mobilenetv3_large_100'), r'is not mobilenet_v3_large 1 \(timm\) as timm names it'),
        (hub(pretrained={'mean': [0.4] * 3, 'std': [0.2] * 3}), 'which is none of symmetric, imagenet, unit'),
        (hub(pretrained={'input_size': [3, 96, 128]}), r'input_size=\[3, 96, 128\]; square images of 3 channels'),
        (hub(pretrained={'input_size': 96}), 'config.json beside it is damaged'),
        (hub(model_args={'act_layer': 'gelu'}), 'states model_args act_layer, with which the network is none'),
        (hub(global_pool='max'), "states global_pool='max', with which the network is none"),
    ],
    ids=['family', 'depth', 'other', 'range', 'shape', 'damaged', 'arguments', 'pooling'],
)
def test_configs_of_other_networks_are_refused(config, message, load):
    with pytest.raises(UserError, match=message) as error:
        load(config)
    assert '\n' not in str(error.value)


def test_the_name_of_the_file_tells(load, capsys):
    card = load(file_name='my_tf_mobilenetv3_small_minimal_100-finetuned.safetensors').card
    assert (card.convention, card.preprocessing.normalization) == ('tf', 'symmetric')
    assert card.preprocessing.interpolation == 'bilinear'
    assert load(file_name='mobilenetv3_small_minimal_100.safetensors').card.convention == 'timm'
    assert 'padding' not in capsys.readouterr().err


def test_a_training_checkpoint_tells(arrays, tmp_path):
    arguments = argparse.Namespace(mean=None, std=None, img_size=96, crop_pct=None, interpolation='', lr=0.1)

    def wrap(tensors):
        return {'arch': 'tf_mobilenetv3_small_minimal_100', 'state_dict': tensors, 'args': arguments, 'version': 2}

    weight_files.write_pth(tmp_path / 'last.pth.tar', arrays, wrap)
    card = load_pretrained(str(tmp_path / 'last.pth.tar')).card
    assert (card.convention, card.preprocessing.normalization, card.preprocessing.image_size) == ('tf', 'symmetric', 96)


def test_without_a_statement_the_assumptions_are_said(load, capsys):
    card = load().card
    assert (card.convention, card.preprocessing.normalization) == ('timm', 'imagenet')
    note = capsys.readouterr().err
    assert "assumed: 224 px, the range 'imagenet', padding and epsilon of timm's own networks" in note
    assert '--config.data.normalization' in note and '--config.model.convention=tf' in note and note.count('\n') == 1
    load(convention='tf')
    assert 'padding' not in capsys.readouterr().err
