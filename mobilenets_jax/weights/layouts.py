"""How each framework spells and lays out the weights of a layer."""

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np


def _hwio_kernel(kernel: np.ndarray, kind: str) -> np.ndarray:
    """TensorFlow: HWIO already, but depthwise kernels are (H, W, C, 1)."""
    return kernel.transpose(0, 1, 3, 2) if kind == 'depthwise' else kernel


def _oihw_kernel(kernel: np.ndarray, kind: str) -> np.ndarray:
    """PyTorch: OIHW, depthwise kernels (C, 1, H, W), dense kernels (out, in)."""
    del kind
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _our_kernel(kernel: np.ndarray, kind: str) -> np.ndarray:
    del kind
    return kernel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The rules of one framework.

    Attributes:
        suffixes: for each kind of layer (see `network.Layer`) our leaves and what follows the layer's name there.
        kernel: brings a kernel into our layout, given the kind of the layer.
        folded: whether batch norms are folded into the convolutions: of a norm there is only the bias then.
        ignored: what of a file is no weight: a regular expression that is found in the name.
    """

    suffixes: Mapping[str, Mapping[str, str]]
    kernel: Callable[[np.ndarray, str], np.ndarray]
    folded: bool = False
    ignored: re.Pattern = re.compile('(?!)')  # finds nothing

    def to_ours(self, array: np.ndarray, kind: str, leaf: str, shape: tuple[int, ...]) -> np.ndarray:
        """`array` in our layout; a dense layer that the framework writes as a 1x1 convolution loses those axes."""
        if leaf != 'kernel':
            return array
        array = self.kernel(array, kind)
        is_pointwise = array.ndim == 4 and array.shape[:2] == (1, 1)
        return array[0, 0] if is_pointwise and len(shape) == 2 else array


def _suffixes(kernel: str, bias: str, norm: Mapping[str, str], depthwise: str | None = None) -> dict:
    return {
        'conv': {'kernel': kernel},
        'depthwise': {'kernel': depthwise or kernel},
        'dense': {'kernel': kernel, 'bias': bias},
        'norm': norm,
    }


_TF_NORM = {'scale': '/gamma', 'bias': '/beta', 'mean': '/moving_mean', 'var': '/moving_variance'}

LAYOUTS = {
    'pytorch': Layout(
        suffixes=_suffixes(
            '.weight',
            '.bias',
            {'scale': '.weight', 'bias': '.bias', 'mean': '.running_mean', 'var': '.running_var'},
        ),
        kernel=_oihw_kernel,
        # of batch norms, and what the FLOP counter thop leaves behind
        ignored=re.compile(r'\.num_batches_tracked$|(?:^|\.)total_(?:ops|params)$'),
    ),
    'keras': Layout(suffixes=_suffixes('/kernel', '/bias', _TF_NORM), kernel=_hwio_kernel),
    'slim': Layout(
        suffixes=_suffixes('/weights', '/biases', _TF_NORM, depthwise='/depthwise_weights'), kernel=_hwio_kernel
    ),
    'model_garden': Layout(
        suffixes=_suffixes('/kernel', '/bias', _TF_NORM, depthwise='/depthwise_kernel'), kernel=_hwio_kernel
    ),
    'tflite': Layout(suffixes=_suffixes('/kernel', '/bias', {'bias': '/bias'}), kernel=_our_kernel, folded=True),
}
