"""`latency`: what is counted of a file, how networks take turns, and what the command prints."""

import os
import pathlib

import numpy as np
import pytest
from small_networks import SIZE

from mobilenets_jax.__main__ import main
from mobilenets_jax.commands import latency as latency_command
from mobilenets_jax.errors import UserError
from mobilenets_jax.export import flatbuffer, timing
from mobilenets_jax.export.file_madds import file_madds
from mobilenets_jax.export.quantization import quantize
from mobilenets_jax.export.untrained import untrained_file
from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.search.latency import PapersPixel1
from mobilenets_jax.search.published_latencies import madds_by_kind

WEIGHTS = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')) / 'weights'


@pytest.mark.parametrize('name', ['mobilenet_v1', 'mobilenet_v3_small', 'mnasnet_small'])
def test_a_file_has_the_multiply_adds_of_its_table(packages, name):
    counted = file_madds(untrained_file(create_model(name, width_multiplier=0.25), SIZE))
    assert counted.unknown == ()
    assert counted.by_kind == madds_by_kind(get_spec(name, 0.25), SIZE)


@pytest.mark.parametrize(
    ('name', 'width', 'unknown'),
    [
        ('mobilenet_edgetpu', 0.25, {'large convolutions beyond the first layer'}),
        ('shufflenet_v1_g3', 0.5, {'grouped convolutions', 'TRANSPOSE', 'MAX_POOL_2D'}),
    ],
)
def test_what_the_fit_does_not_know_is_named(packages, name, width, unknown):
    counted = file_madds(untrained_file(create_model(name, width_multiplier=width), SIZE))
    assert unknown <= set(counted.unknown)
    assert 'TRANSPOSE' in counted.unknown or set(counted.unknown) == unknown


@pytest.mark.parametrize(
    ('file', 'madds', 'unknown'),
    [  # golden counts of 1000 classes, and the products of class 1001
        ('tflite_mobilenet_v1_0.25_224_float.tflite', 41_030_272 + 256, ()),
        ('tflite_mobilenet_v2_1.0_224_quant.tflite', 300_774_272 + 1280, ('weights in uint8',)),
    ],
)
def test_files_of_others(packages, file, madds, unknown):
    if not (WEIGHTS / file).exists():
        pytest.skip(f'{WEIGHTS / file} is not there')
    counted = file_madds((WEIGHTS / file).read_bytes())
    assert (sum(counted.by_kind.values()), counted.unknown) == (madds, unknown)


class Recorder:
    """A network whose every run takes a millisecond more than the last one of all networks."""

    runs: list['Recorder'] = []

    def milliseconds(self):
        self.runs.append(self)
        return len(self.runs)


def test_networks_take_turns_after_a_warm_up():
    first, second = networks = [Recorder(), Recorder()]
    milliseconds = timing.measure(networks, 3)
    warm = timing.WARM_UP
    assert Recorder.runs == [first] * warm + [second] * warm + [first, second] * 3
    np.testing.assert_array_equal(milliseconds - 2 * warm, [[1, 3, 5], [2, 4, 6]])


@pytest.fixture(scope='module')
def in_8_bit(packages):
    return untrained_file(create_model('mobilenet_v2', width_multiplier=0.35), SIZE, int8=True)


def test_a_line_for_each_network(in_8_bit, tmp_path, capsys):
    path = tmp_path / 'small.tflite'
    path.write_bytes(in_8_bit)
    capsys.readouterr()
    networks = ['mobilenet_v2:0.35', str(path), 'mobilenet_v2:0.35']
    assert main(['latency', *networks, f'--image_size={SIZE}', '--runs=3']) == 0
    output = capsys.readouterr()
    header, named, file, blank, *about = output.out.splitlines()
    assert header.split()[-2:] == ['predicted', 'published'] and blank == ''
    rows = [line.split() for line in (named, file)]
    assert [row[0] for row in rows] == ['mobilenet_v2:0.35', str(path)]
    for row in rows:
        assert row[1] == str(SIZE) and row[3] == '1'
        minimum, median, high = map(float, row[4:7])
        assert 0 < minimum <= median <= high
    predicted = PapersPixel1().milliseconds(get_spec('mobilenet_v2', 0.35), SIZE)
    assert rows[0][7:] == [f'{predicted:.1f}', '-'] and rows[1][7:] == ['-', '-']
    assert '--threads=1, 3 runs of each, taking turns' in about[0]
    assert about[-1].endswith('here are 0')
    assert output.err == (
        'no latency of a Pixel 1 is predicted for 1 of 2, which have what the fitted networks have not: '
        f'{path} (weights in int8)\n'
    )


def test_named_networks_in_8_bit(in_8_bit):
    """Weights, input and output in 8 bit; the same products."""
    counted = file_madds(in_8_bit)
    assert counted.by_kind == madds_by_kind(get_spec('mobilenet_v2', 0.35), SIZE) and counted.unknown == (
        'weights in int8',
    )
    graph = flatbuffer.unpack(in_8_bit).subgraphs[0]
    int8 = flatbuffer.schema().TensorType.INT8
    assert [graph.tensors[index].type for index in (*graph.inputs, *graph.outputs)] == [int8, int8]
    network = timing.TimedNetwork(in_8_bit, 'it', 1)
    assert network.image_size == (SIZE, SIZE) and network.milliseconds() > 0


def test_files_that_cannot_be_predicted_or_timed(packages):
    """Weights in 8 bit that are computed in float; an input of any size."""
    content = untrained_file(create_model('mobilenet_v1', width_multiplier=0.25), SIZE)
    assert set(file_madds(quantize(content, 'weights', None, 'symmetric')).unknown) == {
        'DEQUANTIZE',
        'computed weights',
    }
    model = flatbuffer.unpack(content)
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shapeSignature = [1, -1, -1, 3]
    with pytest.raises(UserError, match=r'^f takes \[\[1, -1, -1, 3\]\], where one image \[1, H, W, 3\] of a fixed'):
        timing.TimedNetwork(flatbuffer.pack(model), 'f', 1)


@pytest.mark.parametrize(
    ('networks', 'message'),
    [
        (['mobilenet_v2:wide'], "'mobilenet_v2:wide': the width 'wide' is no number, such as 0.75."),
        (['mobilenet_v2', 'mobilenet_v2:-1'], 'width_multiplier=-1.0 must be positive.'),
        (['mobilenet_v9'], "model.name='mobilenet_v9' is unknown. Known: "),
        (['mobilenet_v2', 'none.tflite'], 'none.tflite cannot be read: No such file or directory.'),
        (['mobilenet_v2', 'text.tflite'], 'text.tflite is no TFLite file that LiteRT can run: '),
    ],
)
def test_mistakes_are_found_before_anything_is_converted(packages, tmp_path, monkeypatch, capsys, networks, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'text.tflite').write_text('no network')
    monkeypatch.setattr(latency_command, 'untrained_file', pytest.fail)
    assert main(['latency', *networks]) == 2
    output = capsys.readouterr()
    assert output.out == '' and output.err.startswith(f'error: {message}') and output.err.count('\n') == 1
