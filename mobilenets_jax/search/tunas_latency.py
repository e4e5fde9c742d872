"""TuNAS's linear model of latency over ProxylessNAS's space, fitted by its authors on simulated Pixel 1 latencies.

Paper: Bender et al., TuNAS, 2008.06120, section 3.
Reference: google-research tunas/mobile_cost_model.py, cost_model_lib.py and cost_model_data.py@0c1bbe5.
"""

import base64
import binascii
import json

import numpy as np
from etils import epath

from mobilenets_jax.errors import UserError, check
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.proxylessnas_layers import layer_options, proxylessnas_decisions
from mobilenets_jax.search.spaces import KERNELS, get_space

_EXPANSIONS = (3, 6)


class TunasPixel1:
    """A latency model with a weight for each option of each layer.

    Args:
        weights: float [144]: the kernels of the first layer; of each other one all kernels with each expansion, then,
            where it can be left out, that.
        bias: milliseconds.
    """

    device = "Pixel 1, TuNAS's linear model"

    def __init__(self, weights: np.ndarray, bias: float):
        self.space = get_space('proxylessnas')
        self._weights, self._bias = weights, bias

    def milliseconds_of(self, decisions: np.ndarray) -> float:
        """The latency of decisions of `space`, int [C]."""
        options, start, total = self.space.options(decisions), 0, self._bias
        for number, (kernel_size, expand) in enumerate(layer_options(self.space, decisions), start=1):
            if number == 1:
                feature, count = KERNELS.index(kernel_size), len(KERNELS)
            else:
                pairs = [(kernel, expansion) for kernel in KERNELS for expansion in _EXPANSIONS]
                count = len(pairs) + (f'layer{number:02d}/skip' in options)
                feature = len(pairs) if kernel_size is None else pairs.index((kernel_size, expand))
            total, start = total + self._weights[start + feature], start + count
        return float(total)

    def milliseconds(self, spec: NetworkSpec, image_size: int = 224) -> float:
        """See `latency.LatencyModel`; a layer that is left out is taken to be the last of its stage."""
        check(image_size == 224, 'image_size', image_size, 'must be 224 for the model of TuNAS')
        return self.milliseconds_of(proxylessnas_decisions(self.space, spec))


def read_tunas(path: str) -> TunasPixel1:
    """The model of a JSON file: `kernel_base64`, a list of strings, and `bias_base64`, of big-endian float32."""
    try:
        found = json.loads(epath.Path(path).expanduser().read_text())
        kernel, bias = (
            np.frombuffer(base64.b64decode(''.join(found[name])), '>f4').astype(float)
            for name in ('kernel_base64', 'bias_base64')
        )
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}.') from error
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise UserError(f"{path} is no model of TuNAS's: {type(error).__name__}: {error}.") from error
    fits = kernel.shape == (144,) and bias.shape == (1,)
    check(fits, path, (kernel.size, bias.size), "is no model of TuNAS's, which has 144 weights and a bias")
    return TunasPixel1(kernel, float(bias[0]))
