"""How CPUs run the operations: native ops where they can be built, forms that XLA:CPU runs well where not."""

from mobilenets_jax.ops.conv import ConvOptions, convolve_plainly
from mobilenets_jax.ops.cpu.batch_norm import batch_norm
from mobilenets_jax.ops.cpu.chains import Convolution
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.marked import FORMS
from mobilenets_jax.ops.norm import NormOptions


def _conv(options: ConvOptions, inputs, kernel):
    convolution = Convolution.of(options, inputs, kernel)
    if convolution.groups > 1:  # no network has one
        return convolve_plainly(options, inputs, kernel)
    return convolution(inputs, kernel)


def _batch_norm(options: NormOptions, inputs, scale, bias):
    return batch_norm(inputs, scale, bias, **options._asdict())


def _normalize(options: NormOptions, inputs, *arrays):
    return Normalization(*arrays, options.epsilon, options.activation)(inputs)


FORMS['cpu'] = {'conv': _conv, 'batch_norm': _batch_norm, 'normalize': _normalize}
