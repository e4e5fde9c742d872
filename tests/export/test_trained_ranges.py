"""A network trained for 8 bit becomes a file that says what it said in training, by the ranges that it learned."""

import jax
import numpy as np
import pytest
from small_networks import SIZE, pixels, small_network

from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.errors import RunError
from mobilenets_jax.export import converter, flatbuffer, lowering
from mobilenets_jax.export.agreement import agreement
from mobilenets_jax.export.exporting import export, in_8_bit
from mobilenets_jax.export.learned_ranges import learned_ranges
from mobilenets_jax.export.litert import LiteNetwork
from mobilenets_jax.fake_quantization import activations
from mobilenets_jax.tasks.classified_images import trained_classifier

PIXELS = pixels(50)
IMAGES = np.asarray(normalize(PIXELS, 'symmetric'))


@pytest.fixture(scope='module')
def trained(packages):
    """A network with hard-swish and squeeze-excite, whose ranges are a tenth narrower than its activations."""
    pretrained = small_network('mobilenet_v3_small', 0.35)

    @jax.jit
    def ends(variables, images):
        found = activations(pretrained.model, variables, images)
        return {name: (0.9 * values.min(), 0.9 * values.max()) for name, values in found.items()}

    ranges = ends(pretrained.variables, IMAGES)
    ranges = {name: tuple(map(float, pair)) for name, pair in ranges.items()}
    return trained_classifier(pretrained)._replace(ranges=ranges)


def test_file_has_the_outputs_that_the_network_had_in_training(trained):
    exported = export(trained, 'int8', PIXELS)
    assert exported.learned_ranges == len(trained.ranges) == 99
    expected = np.asarray(in_8_bit(trained)(IMAGES))
    found = agreement(expected, LiteNetwork(exported.content, 'file')(IMAGES))
    assert found.same_class >= 98 and found.correlation > 0.99
    assert exported.quantized_agreement == found
    graph = flatbuffer.unpack(exported.content).subgraphs[0]
    low, high = trained.ranges['logits/output']
    np.testing.assert_allclose(
        graph.tensors[graph.outputs[0]].quantization.scale, [(high - low) / 255], rtol=1e-5
    )  # not that of the logits themselves, which reach further
    assert expected.max() == pytest.approx(high, abs=(high - low) / 255)


def test_ranges_of_another_network_are_refused(trained):
    program = lowering.stablehlo(trained.model, trained.variables, (SIZE, SIZE))
    content = converter.to_tflite(program, lowering.INPUT, lowering.OUTPUT)
    other = jax.tree.map(lambda leaf: 1.5 * leaf, trained.variables)
    with pytest.raises(RunError, match=r'^\d+ of 99 learned range\(s\) belong to no tensor of the converted network'):
        learned_ranges(content, trained.model, other, trained.ranges, IMAGES)
