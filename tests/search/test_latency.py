"""Latency models agree with what papers print, and with other people's code and tables."""

import dataclasses
import json
import os
import pathlib
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import yaml

from mobilenets_jax.errors import UserError
from mobilenets_jax.models import get_spec
from mobilenets_jax.models.found import to_text
from mobilenets_jax.report.counts import count_model
from mobilenets_jax.search import proxylessnas_mobile
from mobilenets_jax.search.latency import PapersPixel1, latency_model
from mobilenets_jax.search.operations import operations
from mobilenets_jax.search.published_latencies import ROWS, feature_rows, fit, fit_errors, left_out, printed
from mobilenets_jax.search.spaces import get_space

SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')) / 'luts'
FILES = {
    'once_for_all': 'ofa_note10/224_lookup_table.yaml',
    'proxylessnas': 'proxylessnas_pixel1/mobile_trim.yaml',
    'single_path_nas': 'single_path_nas/pixel1_runtime_model.json',
    'tf_nas': 'tfnas/latency_cpu.pkl',
    'tunas': 'tunas_pixel1/proxylessnas_search.json',
}
# tunas/mobile_cost_model_test.py@0c1bbe5: of each layer the kernel, the expansion and whether it is left out, where the
# space has a choice; after the layers of a block its width. Their model gives it 84.0 ms within 1.
TUNAS_VECTOR = (
    *(0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0, 1, 1, 0, 2, 1),
    *(0, 2, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0),
)


def shared(name: str) -> str:
    path = SHARED / FILES[name]
    if not path.exists():
        pytest.skip(f'{path} is not there')
    return str(path)


@pytest.mark.parametrize('image_size', [224, 97])
@pytest.mark.parametrize('name', ['mobilenet_v3_small', 'mnasnet_small', 'mobilenet_edgetpu', 'se_mobilenet_v1'])
def test_operations_of_a_table_are_those_of_the_traced_network(name, image_size):
    counted = count_model(name, image_size=image_size).madds
    assert sum(operation.madds for operation in operations(get_spec(name), image_size)) == counted


def test_operations_of_every_block_of_mnasnets_space_are_those_of_the_traced_network():
    space = get_space('mnasnet')
    ops = ('conv', 'sepconv', 'mbconv3', 'mbconv6', 'conv', 'mbconv6', 'mbconv3')
    options = space.options(np.zeros(len(space.choices), int))
    options |= {f'block{number}/op': op for number, op in enumerate(ops, start=1)}
    options |= {f'block{number}/se': 0.25 for number in range(1, 8)} | {f'block{number}/layers': 0 for number in (1, 7)}
    spec = space.spec(space.decisions(options))
    assert {row.kind for row in spec.blocks} == {'dense_conv', 'inverted_residual'}
    counted = count_model('found', table=to_text('found', spec)).madds
    assert sum(operation.madds for operation in operations(spec, 224)) == counted


def test_operations_of_other_rows_are_refused():
    with pytest.raises(UserError, match="^a block of the kind 'bottleneck' has no latency. Known: dense_conv, "):
        list(operations(get_spec('resnet50'), 224))


def test_fit_of_the_printed_latencies():
    """Errors of the fit and of every row by a fit without it."""
    rows, milliseconds = feature_rows(), printed()
    model = PapersPixel1()
    predicted = np.array(
        [model.milliseconds(get_spec(row.name, **row.fields), row.image_size) for row in ROWS], np.float64
    )
    errors = 100 * np.abs(predicted / milliseconds - 1)
    assert len(ROWS) == 25 and (round(errors.mean(), 1), round(errors.max(), 1)) == (3.3, 9.3)
    assert [round(error, 1) for error in fit_errors(rows, milliseconds)] == [3.3, 9.3, 4.0, 11.4]
    coefficients = {kind: round(value, 1) for kind, value in model.coefficients.items()}
    assert coefficients == {'pointwise': 141.6, 'depthwise': 1172.9, 'fully_connected': 733.3, 'dense_kxk': 22.8}


def test_a_row_that_is_left_out_has_no_part_in_its_prediction():
    rows, milliseconds = feature_rows(), printed()
    changed = milliseconds.copy()
    changed[3] *= 2
    before, after = left_out(rows, milliseconds), left_out(rows, changed)
    assert after[3] == before[3] == pytest.approx(rows[3] @ fit(np.delete(rows, 3, 0), np.delete(milliseconds, 3)))
    assert np.abs(np.delete(after / before, 3) - 1).min() > 1e-6


def test_fit_is_least_squares_of_relative_errors_without_negative_coefficients():
    """At its minimum no coefficient can be moved to a smaller error, but for one at zero that would have to fall."""
    rows, milliseconds = feature_rows(), printed()
    milliseconds = milliseconds * np.where(rows[:, 0] > 5e-3, 0.7, 1.3)  # where large stems seem to save time
    relative = rows / milliseconds[:, None]
    found = fit(rows, milliseconds)
    slopes = relative.T @ (relative @ found - 1)
    assert found.min() == 0 and found.max() > 0
    assert np.abs(slopes[found > 0]).max() < 1e-8 and slopes[found == 0].min() > 0


def test_tunas_own_test_vector():
    model = latency_model('tunas', shared('tunas'))
    options, layer = {}, 0
    indices = iter(TUNAS_VECTOR)
    for layers in (0, 1, 4, 4, 4, 4, 4, 1, 0):
        for position in range(layers):
            layer += 1
            name, skippable = f'layer{layer:02d}', position > 0
            options[f'{name}/kernel'] = (3, 5, 7)[next(indices)]
            if layer > 1:
                options[f'{name}/expand'] = (3, 6)[next(indices)]
                skipped = next(indices)
                options |= {f'{name}/skip': bool(skipped)} if skippable else {}
        next(indices)  # the block's width, which is not decided
    assert next(indices, None) is None and layer == 22
    assert model.milliseconds_of(model.space.decisions(options)) == pytest.approx(84.0, abs=0.05)
    mobile = model.space.decisions(proxylessnas_mobile.options())
    assert (
        model.milliseconds(model.space.spec(mobile)) == model.milliseconds_of(mobile) == pytest.approx(84.4, abs=0.05)
    )


def test_tunas_model_agrees_with_the_fit_of_the_papers():
    """Two sources of one phone order 300 networks alike, and differ by 8 % at most in the mean but for one factor."""
    tunas, papers = latency_model('tunas', shared('tunas')), PapersPixel1()
    sample = tunas.space.sample(np.random.default_rng(0), 300)
    pairs = np.array([(tunas.milliseconds_of(d), papers.milliseconds(tunas.space.spec(d))) for d in sample])
    ranks = pairs.argsort(axis=0).argsort(axis=0)
    assert np.corrcoef(ranks.T)[0, 1] > 0.93
    ratios = pairs[:, 1] / pairs[:, 0]
    assert np.abs(ratios / np.median(ratios) - 1).mean() < 0.08


def test_once_for_all_is_the_sum_of_its_entries():
    """The sum of entries written out by hand, for the smallest and the largest network."""
    table = yaml.safe_load(pathlib.Path(shared('once_for_all')).read_text())
    model, space = latency_model('once_for_all', shared('once_for_all')), get_space('once_for_all')
    entries = [
        'Conv-input:224x224x3-output:112x112x24',
        'expanded_conv-input:112x112x24-output:112x112x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0',
        'expanded_conv-input:112x112x24-output:56x56x32-expand:72-kernel:3-stride:2-idskip:0-se:0-hs:0',
        'expanded_conv-input:56x56x32-output:56x56x32-expand:96-kernel:3-stride:1-idskip:1-se:0-hs:0',
        'expanded_conv-input:56x56x32-output:28x28x48-expand:96-kernel:3-stride:2-idskip:0-se:1-hs:0',
        'expanded_conv-input:28x28x48-output:28x28x48-expand:144-kernel:3-stride:1-idskip:1-se:1-hs:0',
        'expanded_conv-input:28x28x48-output:14x14x96-expand:144-kernel:3-stride:2-idskip:0-se:0-hs:1',
        'expanded_conv-input:14x14x96-output:14x14x96-expand:288-kernel:3-stride:1-idskip:1-se:0-hs:1',
        'expanded_conv-input:14x14x96-output:14x14x136-expand:288-kernel:3-stride:1-idskip:0-se:1-hs:1',
        'expanded_conv-input:14x14x136-output:14x14x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:1',
        'expanded_conv-input:14x14x136-output:7x7x192-expand:408-kernel:3-stride:2-idskip:0-se:1-hs:1',
        'expanded_conv-input:7x7x192-output:7x7x192-expand:576-kernel:3-stride:1-idskip:1-se:1-hs:1',
        'Conv_1-input:7x7x192-output:7x7x1152',
        'AvgPool2D-input:7x7x1152-output:1x1x1152',
        'Conv_2-input:1x1x1152-output:1x1x1536',
        'Logits-input:1x1x1536-output:1000',
    ]
    smallest = sum(table[entry]['mean'] for entry in entries)
    assert model.milliseconds(space.spec([0] * 45)) == pytest.approx(smallest, rel=1e-12)
    with pytest.raises(UserError, match="has no entry 'Conv-input:192x192x3-output:96x96x24'. Did you mean"):
        model.milliseconds(space.spec([0] * 45), 192)


def test_proxylessnas_and_single_path_tables_know_the_layers_of_mnasnet():
    """MnasNet-B1's layers, of both tables of a Pixel 1: the second has neither stem nor head."""
    spec = get_spec('mnasnet_b1')
    whole = latency_model('proxylessnas', shared('proxylessnas')).milliseconds(spec)
    table = yaml.safe_load(pathlib.Path(shared('proxylessnas')).read_text())
    ends = ('Conv-input:224x224x3-output:112x112x32', 'Conv_1-input:7x7x320-output:7x7x1280')
    ends = sum(table[name]['mean'] for name in (*ends, 'Logits-input:7x7x1280-output:1000'))
    layers = latency_model('single_path_nas', shared('single_path_nas')).milliseconds(spec)
    # Layer by layer: its number, and k3e3, k3e6, k5e3 or k5e6.
    raw = json.loads(pathlib.Path(shared('single_path_nas')).read_text())
    by_hand = ['0/0', '1/0', '2/0', '3/0', '5/2', '6/2', '7/2', '9/3', '10/3', '11/3', '13/1', '14/1']
    by_hand += ['17/3', '18/3', '19/3', '20/3', '21/1']
    assert layers == pytest.approx(sum(raw[name.split('/')[0]][name.split('/')[1]] for name in by_hand), rel=1e-12)
    assert layers == pytest.approx(whole - ends, rel=0.15)  # other versions of the tool


def tf_nas_network(expanded: int):
    first = dataclasses.replace(get_spec('mobilenet_v2').blocks[0], activation='relu')
    second = dataclasses.replace(first, kernel_size=5, expanded=expanded, out_channels=24, stride=2)
    return dataclasses.replace(get_spec('mobilenet_v2'), blocks=(first, second))


def test_tf_nas_table_has_every_expansion(tmp_path):
    """In the format of the real one: the first block stands in 'base'."""
    block = 'MBInvertedResBlock_112_16_0_24_k5_s2_relu'
    path = tmp_path / 'latency.pkl'
    path.write_bytes(pickle.dumps(OrderedDict(base=9.5, **{block: OrderedDict({83: 0.25, 84: 0.5})})))
    model = latency_model('tf_nas', str(path))
    assert (model.milliseconds(tf_nas_network(83)), model.milliseconds(tf_nas_network(84))) == (9.75, 10.0)
    with pytest.raises(UserError, match=f"^{path} has no entry '{block}/85'. Did you mean '{block}/8[34]'"):
        model.milliseconds(tf_nas_network(85))


def test_real_tf_nas_table_rises_with_the_expansion():
    model = latency_model('tf_nas', shared('tf_nas'))
    latencies = [model.milliseconds(tf_nas_network(expanded)) for expanded in (1, 64, 128)]
    assert 9 < latencies[0] < latencies[1] < latencies[2] < 20


class Harmful:
    """A pickle that runs a command when it is read."""

    def __reduce__(self):
        return os.system, ('touch harmed',)


def test_wrong_files_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        'harm.pkl': pickle.dumps({'base': Harmful()}),
        'cut.pkl': pickle.dumps({'base': 1.0})[:-4],
        'list.json': b'[1]',
        'text.yaml': b'a: [',
        'flat.yaml': b'a: 3',
        'words.yaml': b'a: {mean: fast}',
        'short.json': json.dumps({'kernel_base64': ['AAAA'], 'bias_base64': 'AAAAAA=='}).encode(),
    }
    for name, content in files.items():
        pathlib.Path(name).write_bytes(content)
    wrong = [
        ('tf_nas', 'harm.pkl', 'harm.pkl is no table of latencies: it would import posix.system.'),
        ('tf_nas', 'cut.pkl', 'cut.pkl is no table of latencies: '),
        ('single_path_nas', 'list.json', "list.json='list' is no table of latencies."),
        ('once_for_all', 'text.yaml', 'text.yaml is no table of latencies: '),
        ('once_for_all', 'flat.yaml', "flat.yaml: a=3 must have a 'mean'."),
        ('proxylessnas', 'words.yaml', "words.yaml: a='fast' must be a number of milliseconds."),
        ('proxylessnas', 'gone.yaml', 'gone.yaml cannot be read: No such file or directory.'),
        ('tunas', 'short.json', "short.json is no model of TuNAS's: "),
        ('tunas', 'list.json', "list.json is no model of TuNAS's: "),
        (
            'papers_pixel1',
            'text.yaml',
            "search.latency_file='text.yaml' does not go with search.latency='papers_pixel1'.",
        ),
        ('pixel', '', "search.latency='pixel' is unknown. Known: measured, once_for_all, papers_pixel1, "),
    ]
    for name, path, line in wrong:
        with pytest.raises(UserError) as caught:
            latency_model(name, path)
        assert str(caught.value).startswith(line) and '\n' not in str(caught.value)
    assert not pathlib.Path('harmed').exists()
