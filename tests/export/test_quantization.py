"""What 8 bit does to a network, beside arithmetic by hand; and what the quantizer's own defaults would lose."""

import numpy as np
import pytest
from small_networks import SIZE, pixels, small_network

from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.errors import RunError, UserError
from mobilenets_jax.export import converter, flatbuffer, lowering, quantization
from mobilenets_jax.export.agreement import agreement, check_float, check_quantized
from mobilenets_jax.export.calibration import activation_ranges
from mobilenets_jax.export.litert import LiteNetwork, Scale
from mobilenets_jax.export.packages import quiet

IMAGES = np.asarray(normalize(pixels(), 'symmetric'))


@pytest.fixture(scope='module')
def float_file(packages):
    """A network with channels whose weights are all 0."""
    pretrained = small_network(dead=True)
    program = lowering.stablehlo(pretrained.model, pretrained.variables, (SIZE, SIZE))
    return converter.to_tflite(program, 'images', 'logits')


def test_ranges_are_the_least_and_the_largest_values(float_file):
    ranges = activation_ranges(float_file, 0.5 * IMAGES, 'symmetric')
    model = flatbuffer.unpack(float_file)
    entrance, exit_ = (model.subgraphs[0].tensors[index[0]].name.decode() for index in
                       (model.subgraphs[0].inputs, model.subgraphs[0].outputs))  # fmt: skip
    assert ranges[entrance] == pytest.approx((-1, 1 + 2 / 255))  # whatever the images have of it
    logits = LiteNetwork(float_file, 'file')(0.5 * IMAGES)
    np.testing.assert_allclose(ranges[exit_], (logits.min(), logits.max()), rtol=1e-4)
    low, high = activation_ranges(float_file, 0.5 * IMAGES, 'symmetric', percentile=90)[exit_]
    ends = np.percentile(logits, (10, 90), axis=1)
    np.testing.assert_allclose((low, high), (ends[0].min(), ends[1].max()), rtol=1e-3)
    with pytest.raises(UserError, match='^--calibration=9 images are too few: 10 are the least.$'):
        activation_ranges(float_file, IMAGES[:9], 'symmetric')
    with pytest.raises(UserError, match=r'^--percentile=50 must be in \(50, 100\].$'):
        activation_ranges(float_file, IMAGES, 'symmetric', percentile=50)


def test_dead_channels_are_lifted_and_nothing_else(float_file):
    lifted, count = quantization.lift_dead_channels(float_file)
    before, after = map(flatbuffer.unpack, (float_file, lifted))
    changed = 0
    pairs = zip(flatbuffer.weighted_operations(before), flatbuffer.weighted_operations(after), strict=True)
    for old, new in pairs:
        weights, others = flatbuffer.values(before, old.weights), flatbuffer.values(after, new.weights)
        changed += (weights != others).sum()
        assert (others[weights != others] == np.float32(1e-4) * np.abs(weights).max().astype(np.float32)).all()
        peaks = np.abs(np.moveaxis(others, flatbuffer.CHANNEL_AXIS[new.name], 0).reshape(new.bias.shape[0], -1))
        assert peaks.max(axis=1).min() >= 0.999e-4 * np.abs(weights).max()
    assert count == changed == 2
    assert quantization.lift_dead_channels(lifted)[1] == 0


def test_int8_keeps_what_the_defaults_of_the_quantizer_lose(float_file):
    from ai_edge_quantizer import quantizer, recipe

    expected = LiteNetwork(float_file, 'file')(IMAGES)
    ours = quantization.quantize(float_file, 'int8', IMAGES, 'symmetric')
    found = agreement(expected, LiteNetwork(ours, 'ours')(IMAGES))
    check_quantized(found)
    assert found.correlation > 0.95
    with quiet():
        maker = quantizer.Quantizer(float_file, recipe.static_wi8_ai8())
        ranges = maker.calibrate({'serving_default': [{'images': image[None]} for image in IMAGES]})
        theirs = bytes(maker.quantize(ranges, enable_progress_report=False).quantized_model)
    with pytest.raises(RunError, match=r'^the quantizer lost the biases of 2 channel\(s\) in 2 layer\(s\)'):
        quantization.check_biases(float_file, theirs)
    assert agreement(expected, LiteNetwork(theirs, 'theirs')(IMAGES)).correlation < found.correlation


@pytest.mark.parametrize(('mode', 'floats'), [('int8', False), ('dynamic', True), ('weights', True)])
def test_weights_of_every_mode_are_a_quarter(float_file, mode, floats):
    quantized = quantization.quantize(float_file, mode, IMAGES, 'symmetric')
    assert 0.2 < len(quantized) / len(float_file) < 0.45
    network = LiteNetwork(quantized, mode)
    assert network.float_input == floats
    assert agreement(LiteNetwork(float_file, 'file')(IMAGES), network(IMAGES)).correlation > 0.95


def test_a_corrected_bias_keeps_the_means_of_the_logits(float_file):
    """Weights rounded to a few bits shift the logits' means; the corrected last bias takes back its layer's part."""
    means = [
        LiteNetwork(quantization.quantize(float_file, 'weights', images, 'symmetric'), 'file')(IMAGES).mean(axis=0)
        for images in (None, IMAGES)
    ]
    wanted = LiteNetwork(float_file, 'file')(IMAGES).mean(axis=0)
    plain, corrected = (np.linalg.norm(mean - wanted) for mean in means)
    assert corrected < 0.5 * plain


def test_a_tensor_is_stored_by_its_scale():
    scale = Scale(np.dtype('int8'), 0.5, 10)
    stored = scale.store(np.array([0, 1, -1, 0.24, 0.26, 1000, -1000], np.float32))
    assert stored.dtype == np.int8 and stored.tolist() == [10, 12, 8, 10, 11, 127, -128]
    assert scale.read(stored).tolist() == [0, 1, -1, 0, 0.5, 58.5, -69]
    with pytest.raises(UserError, match='^the input of F is int32 without a scale'):
        Scale.of({'dtype': np.int32, 'quantization': (0.0, 0)}, 'the input of F')


def test_constants_stay_where_processors_want_them(float_file):
    from ai_edge_litert import schema_py_generated as schema

    packed = flatbuffer.pack(flatbuffer.unpack(quantization.quantize(float_file, 'int8', IMAGES, 'symmetric')))
    model = schema.Model.GetRootAsModel(packed, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    places = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert len(places) > 50 and not any(place % 16 for place in places)
    assert not any(buffer.Size() for buffer in buffers)  # none behind the file


def test_files_that_differ_are_refused():
    expected = np.random.default_rng(0).normal(size=(4, 10))
    check_float(agreement(expected, expected + 1e-5))
    for wrong in (expected + 1e-2, expected * np.nan):
        with pytest.raises(RunError, match='^the converted network differs from the original by .*nothing is written'):
            check_float(agreement(expected, wrong))
        with pytest.raises(RunError, match='^quantization breaks the network'):
            check_quantized(agreement(expected, wrong[::-1]))
