"""Convention 'timm' is timm, and 'tf' its ports of the authors' code, layer by layer, with random weights."""

import collections
import math

import jax
import jax.numpy as jnp
import pytest
from model_cases import drop_path_rates
from torch_reference import assert_same_as_torch

from mobilenets_jax.models import create_model
from mobilenets_jax.training.rate_factors import factors_by_name

pytestmark = pytest.mark.slow

NETWORKS = {
    'mobilenetv1_100': ('mobilenet_v1', 1.0, 'timm'),
    'mobilenetv2_100': ('mobilenet_v2', 1.0, 'timm'),
    'mobilenetv2_140': ('mobilenet_v2', 1.4, 'timm'),
    'mobilenetv3_large_100': ('mobilenet_v3_large', 1.0, 'timm'),
    'mobilenetv3_small_100': ('mobilenet_v3_small', 1.0, 'timm'),
    'mobilenetv3_small_050': ('mobilenet_v3_small', 0.5, 'timm'),
    'tf_mobilenetv3_large_075': ('mobilenet_v3_large', 0.75, 'tf'),
    'tf_mobilenetv3_large_minimal_100': ('mobilenet_v3_large_minimalistic', 1.0, 'tf'),
    'mnasnet_100': ('mnasnet_b1', 1.0, 'timm'),
    'semnasnet_100': ('mnasnet_a1', 1.0, 'timm'),
    'mnasnet_small': ('mnasnet_small', 1.0, 'timm'),
    'ghostnet_050': ('ghostnet', 0.5, 'timm'),
    'ghostnet_100': ('ghostnet', 1.0, 'timm'),
    'ghostnet_130': ('ghostnet', 1.3, 'timm'),
    'seresnet50': ('se_resnet50', 1.0, 'timm'),
}


@pytest.mark.parametrize('reference', NETWORKS)
def test_same_network_as_timm(torch, timm, reference):
    name, width, convention = NETWORKS[reference]
    network = timm.create_model(reference, pretrained=False)
    assert_same_as_torch(torch, create_model(name, 1000, width, convention), network, image_size=96)


@pytest.mark.parametrize('reference', ['mobilenetv2_100', 'mnasnet_100'])
def test_drop_path_has_the_rates_of_timm(timm, reference):
    """Of V3 timm counts the last convolution as one more block."""
    name, width, convention = NETWORKS[reference]
    theirs = timm.create_model(reference, drop_path_rate=0.3)
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for stage in theirs.blocks for block in stage]
    assert len(rates) == 17 and rates[-1] == pytest.approx(0.3 * 16 / 17)
    assert drop_path_rates(create_model(name, 10, width, convention, drop_path_rate=0.3)) == pytest.approx(rates)


@pytest.mark.parametrize('reference', ['mobilenetv3_small_100', 'mobilenetv3_large_100'])
def test_layer_decay_has_the_factors_of_timm(timm, reference):
    from timm.optim import param_groups_layer_decay

    theirs = timm.create_model(reference, num_classes=10)
    groups = param_groups_layer_decay(theirs, layer_decay=0.75)  # of each layer, with and without weight decay
    expected = sorted({group['lr_scale'] for group in groups})
    name, width, convention = NETWORKS[reference]
    model = create_model(name, 10, width, convention)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    factors = factors_by_name((), variables['params'], layer_decay=0.75)
    assert sorted(set(factors.values())) == pytest.approx(expected)
    counts = collections.Counter(round(math.log(group['lr_scale'], 0.75)) for group in groups for _ in group['params'])
    assert collections.Counter(round(math.log(factor, 0.75)) for factor in factors.values()) == counts
