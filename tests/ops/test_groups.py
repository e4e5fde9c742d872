"""Groups of channels, beside indexing, in the form of every platform."""

import re

import jax
import numpy as np
import pytest

from mobilenets_jax.ops import alternating_channels, channels_by_groups, deal_channels
from mobilenets_jax.ops.backend import EXPORT, compiling_for

INPUTS = np.arange(2 * 3 * 2 * 12, dtype=np.float32).reshape(2, 3, 2, 12)


@pytest.mark.parametrize('groups', [1, 2, 3, 12])
@pytest.mark.parametrize('platform', ['cpu', 'tpu', EXPORT])
def test_alternating_channels(platform, groups):
    with compiling_for(platform):
        found = [alternating_channels(INPUTS, groups), channels_by_groups(INPUTS, groups, shuffled=True)]
    for parts in found:
        np.testing.assert_array_equal(np.stack(parts), [INPUTS[..., group::groups] for group in range(groups)])


@pytest.mark.parametrize('platform', ['tpu', EXPORT])
def test_for_export_alone_no_slice_has_strides(platform):
    with compiling_for(platform):
        text = jax.jit(lambda x: alternating_channels(x, 2)).lower(INPUTS).as_text()
    slices = re.findall(r'stablehlo.slice %\S+ \[(.*?)\]', text)
    assert len(slices) == 2 and all((axes.count(':') > 4) == (platform == 'tpu') for axes in slices)


def test_dealing_by_hand():
    np.testing.assert_array_equal(deal_channels(INPUTS, 3)[0, 0, 0], [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
