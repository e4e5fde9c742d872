"""State dicts as training scripts save them: under any key, prefix and wrapper, beside anything else."""

import argparse
import collections
import dataclasses
import datetime
import enum
import pathlib
import re

import numpy as np
import pytest
import weight_files
from source_arrays import assert_same, source_arrays

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights import load_pretrained


class _Phase(enum.Enum):
    TRAIN = 1


@dataclasses.dataclass
class _Options:
    rate: float


class _Optimizer:
    """Holds tensors as an optimizer's state does: by number."""


ARGUMENTS = argparse.Namespace(
    lr=0.1, phase=_Phase.TRAIN, folder=pathlib.PurePosixPath('/data'), started=datetime.datetime(2024, 1, 2)
)
BESIDE = {
    'optimizer': {'state': {0: {'momentum_buffer': None}}, 'param_groups': [{'lr': 0.1, 'params': [0, 1]}]},
    'args': ARGUMENTS,
    'best_acc': np.float64(0.93),
    'curve': np.arange(3.0),
    'hyper_parameters': collections.OrderedDict(options=_Options(0.1), betas={0.9, 0.999}),
    'epoch': 3,
}


def prefixed(prefix, tensors):
    return {f'{prefix}{name}': tensor for name, tensor in tensors.items()}


@pytest.fixture(scope='module')
def network():
    return source_arrays('torchvision', 'mobilenet_v2', 0.1, num_classes=7)


def load(path, arrays, wrap=lambda tensors: tensors, **options):
    weight_files.write_pth(path / 'weights.pth', arrays, wrap)
    return load_pretrained(str(path / 'weights.pth'), **options)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda tensors: {'model_state_dict': tensors, **BESIDE},
        lambda tensors: {'net': prefixed('module.', tensors), 'acc': 93.1},
        lambda tensors: {'network': tensors, **BESIDE},
        lambda tensors: {'state_dict': prefixed('model.', tensors), **BESIDE},
        lambda tensors: {'my_own_key': tensors, **BESIDE},
        lambda tensors: {'checkpoint': {'model': tensors}, **BESIDE},
        lambda tensors: prefixed('module._orig_mod.', tensors),
        lambda tensors: prefixed('_orig_mod.module.model.backbone.', tensors),
        lambda tensors: {name.replace('features.3.', 'features.3._orig_mod.'): t for name, t in tensors.items()},
        lambda tensors: {**tensors, 'epoch': 3, 'args': ARGUMENTS},
    ],
    ids=['tutorial', 'net', 'network', 'lightning', 'any key', 'nested', 'compiled', 'deep', 'inside', 'flat'],
)
def test_the_network_is_found_in_a_checkpoint(wrap, network, tmp_path):
    expected, arrays = network
    assert_same(load(tmp_path, arrays, wrap).variables, expected)


@pytest.mark.parametrize('key', ['state_dict_ema', 'model_ema', 'ema', 'ema_state_dict'])
def test_averages_come_before_raw_weights(key, network, tmp_path, capsys):
    expected, arrays = network
    raw = {f'raw.{name}': np.zeros_like(array) for name, array in arrays.items()}

    def wrap(tensors):
        averages = {name: tensor for name, tensor in tensors.items() if not name.startswith('raw.')}
        plain = {name[4:]: tensor for name, tensor in tensors.items() if name.startswith('raw.')}
        return {'state_dict': plain, key: prefixed('module.', averages)}

    assert_same(load(tmp_path, arrays | raw, wrap).variables, expected)
    assert f"the weights of '{key}' are taken; 'state_dict' left out" in capsys.readouterr().err


def test_averages_of_the_parameters_alone_take_the_statistics_of_the_raw_weights(network, tmp_path, capsys):
    expected, arrays = network
    raw = {name: array if 'running' in name else np.zeros_like(array) for name, array in arrays.items()}
    averages = {f'ema.{name}': array for name, array in arrays.items() if 'running' not in name}

    def wrap(tensors):
        shadow = {name[4:]: tensor for name, tensor in tensors.items() if name.startswith('ema.')}
        model = {name: tensor for name, tensor in tensors.items() if not name.startswith('ema.')}
        return {'model': prefixed('module.', model), 'ema': {'decay': 0.999, 'shadow': shadow}}

    assert_same(load(tmp_path, raw | averages, wrap).variables, expected)
    assert "the averages of 'ema.shadow' are taken, with what they lack from 'model'" in capsys.readouterr().err


def test_parts_without_the_name_of_a_network_are_refused(network, tmp_path):
    with pytest.raises(UserError, match="its parts 'teacher', 'student' hold tensors, and none of them is called like"):
        load(tmp_path, network[1], lambda tensors: {'teacher': tensors, 'student': dict(tensors)})


def test_what_is_no_layer_is_left_out_with_a_count(network, tmp_path, capsys):
    expected, arrays = network
    beside = {'n_averaged': np.ones(1, np.float32), 'criterion.weight': np.ones((2, 2), np.float32)}
    beside |= {'model.features.0.0.total_ops': np.ones(1, np.float32)}
    assert_same(load(tmp_path, prefixed('model.', arrays) | beside).variables, expected)
    assert '2 of its arrays, which are no layers of the network, are left out: n_averaged' in capsys.readouterr().err


def test_what_may_be_a_layer_is_never_left_out(network, tmp_path):
    beside = {'neck.weight': np.ones((7, 7), np.float32)}
    with pytest.raises(UserError, match=r'left over in the file: neck\.weight \[7, 7\]'):
        load(tmp_path, prefixed('model.', network[1]) | beside)


def test_of_two_networks_in_one_state_dict_the_average_is_taken(network, tmp_path, capsys):
    expected, arrays = network
    raw = {f'model.{name}': np.zeros_like(array) for name, array in arrays.items()}
    assert_same(load(tmp_path, raw | prefixed('model_ema.', arrays)).variables, expected)
    assert 'of its networks the averages model_ema.* are taken' in capsys.readouterr().err
    with pytest.raises(UserError, match=r'hold 2 networks: model\.\*, teacher\.\*; save the state dict of one'):
        load(tmp_path, raw | prefixed('teacher.', arrays))


class _Module:
    """Pickles as a `torch.nn.Module` does: by its attributes."""

    def __init__(self):
        self._parameters, self._buffers, self._modules = {}, {}, {}

    def add(self, name, tensor):
        child, _, rest = name.partition('.')
        if rest:
            self._modules.setdefault(child, _Module()).add(rest, tensor)
        else:
            (self._buffers if child.startswith('running') else self._parameters)[child] = tensor


def test_a_whole_pickled_module_gives_its_tensors(network, tmp_path, capsys):
    expected, arrays = network

    def wrap(tensors):
        module = _Module()
        for name, tensor in tensors.items():
            module.add(name, tensor)
        return module

    assert_same(load(tmp_path, arrays, wrap).variables, expected)
    assert re.search(
        r'a whole pickled module \(\S+\._Module\), of which only the tensors were', capsys.readouterr().err
    )


@pytest.mark.parametrize(
    'head', ['classifier', 'classifier.0', 'classifier.1.1'], ids=['replaced', 'in a sequence', 'behind a dropout']
)
def test_a_classifier_of_ones_own(head, network, tmp_path):
    expected, arrays = network
    arrays = {name.replace('classifier.1', head): array for name, array in arrays.items()}
    assert_same(load(tmp_path, arrays).variables, expected)


def test_without_a_classifier_a_new_one_must_be_asked_for(network, tmp_path):
    expected, arrays = network
    arrays = {name: array for name, array in arrays.items() if not name.startswith('classifier')}
    with pytest.raises(UserError, match=r'is mobilenet_v2 0\.1 .*, but it has no classifier: num_classes=N') as error:
        load(tmp_path, arrays)
    assert '\n' not in str(error.value)
    model, variables, _ = load(tmp_path, arrays, num_classes=3)
    head = variables['params']['logits']
    assert model.num_classes == 3 and head['kernel'].shape == (1280, 3) and not head['kernel'].any()
    stem = variables['params']['backbone']['stem']['conv']['kernel']
    assert np.array_equal(stem, expected['params/backbone/stem/conv/kernel'])


def test_a_classifier_of_two_layers_is_refused_or_replaced(network, tmp_path):
    arrays = {name: array for name, array in network[1].items() if not name.startswith('classifier')}
    for layer, shape in (('classifier.1', (5, 1280)), ('classifier.4', (7, 5))):
        arrays |= {f'{layer}.weight': np.ones(shape, np.float32), f'{layer}.bias': np.ones(shape[:1], np.float32)}
    with pytest.raises(UserError, match=r'its classifier has 2 layers \(classifier\.1, classifier\.4\) where'):
        load(tmp_path, arrays)
    assert load(tmp_path, arrays, num_classes=3).variables['params']['logits']['kernel'].shape == (1280, 3)


def test_another_network_is_named_by_what_it_seems_to_be(tmp_path):
    arrays = {
        'conv1.weight': np.ones((64, 3, 7, 7), np.float32),
        'layer1.0.conv1.weight': np.ones((64, 64, 3, 3), np.float32),
        'fc.weight': np.ones((10, 512), np.float32),
    }
    with pytest.raises(UserError, match='is no known network: its names are those of a ResNet that this'):
        load(tmp_path, arrays)
