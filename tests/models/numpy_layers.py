"""A few layers in plain NumPy, float64, to write whole networks with that share no code with the package."""

import numpy as np


class NumpyNetwork:
    """Layers that find their weights by name.

    Args:
        variables: `params` and `batch_stats` of one of our classifiers.
        padding: 'same' (TensorFlow) or 'symmetric' (PyTorch).
        epsilon: of batch normalisation.
    """

    def __init__(self, variables, padding: str, epsilon: float):
        self._variables = variables
        self._padding = padding
        self._epsilon = epsilon

    def weights(self, path: str, collection: str = 'params') -> dict[str, np.ndarray]:
        """The leaves below `path`, e.g. 'stem/conv', in the backbone."""
        tree = self._variables[collection]['backbone']
        for key in path.split('/'):
            tree = tree[key]
        return {name: np.asarray(leaf, np.float64) for name, leaf in tree.items() if not isinstance(leaf, dict)}

    def convolve(self, x, kernel, stride=1):
        """[N, H, W, C] by [k, k, C or 1, features]; one input channel in the kernel means depthwise."""
        size = kernel.shape[0]
        x = np.pad(x, ((0, 0), *[self._pads(length, size, stride) for length in x.shape[1:3]], (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
        if kernel.shape[2] == 1:
            return np.einsum('nhwcij,ijc->nhwc', windows, kernel[:, :, 0])
        return np.einsum('nhwcij,ijcf->nhwf', windows, kernel, optimize=True)

    def normalise(self, x, path):
        """Batch normalisation by the running statistics."""
        affine, statistics = self.weights(path), self.weights(path, 'batch_stats')
        inverse = affine['scale'] / np.sqrt(statistics['var'] + self._epsilon)
        return (x - statistics['mean']) * inverse + affine['bias']

    def unit(self, x, path, stride=1):
        """Convolution and normalisation, no activation."""
        return self.normalise(self.convolve(x, self.weights(f'{path}/conv')['kernel'], stride), f'{path}/bn')

    def classify(self, x):
        """Average and classifier."""
        classifier = self._variables['params']['logits']
        return x.mean(axis=(1, 2)) @ np.asarray(classifier['kernel'], np.float64) + classifier.get('bias', 0)

    def pool(self, x, reduce, fill):
        """3x3 windows of every second pixel, padded symmetrically with `fill`, reduced by `reduce`."""
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
        return reduce(windows, axis=(-2, -1))

    def _pads(self, length: int, size: int, stride: int) -> tuple[int, int]:
        if self._padding == 'symmetric':
            return (size // 2, size // 2)
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        return (total // 2, total - total // 2)


def relu(x):
    return np.maximum(x, 0)


def relu6(x):
    return np.clip(x, 0, 6)
