"""A wrong value is refused in one line that names the field, the value and the choices."""

import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.models import create_model, get_spec, list_models


def _message(function, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_unknown_name_lists_the_known_ones():
    known = ', '.join(sorted(list_models()))
    assert (
        _message(create_model, 'mobilenet_v4')
        == f"model.name='mobilenet_v4' is unknown. Known: {known}. Did you mean 'mobilenet_v2'?"
    )


def test_unknown_convention():
    message = _message(create_model, 'mobilenet_v2', convention='caffe')
    assert message.startswith("convention of mobilenet_v2='caffe' is unknown. Known: keras, ")


def test_unknown_field_and_unknown_value_of_a_field():
    message = _message(get_spec, 'mobilenet_v2', bn_eps=1e-3)
    assert message.startswith("field of mobilenet_v2='bn_eps' is unknown. Known: activation, bn_epsilon, bn_momentum, ")
    message = _message(get_spec, 'mobilenet_v2', padding='valid')
    assert message == "padding='valid' is unknown. Known: same, symmetric."


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'output_stride': 64}, 'model.output_stride=64 is unknown. Known: 16, 32, 8.'),
        ({'width_multiplier': -1.0}, 'width_multiplier=-1.0 must be positive.'),
        ({'width_multiplier': 0.0}, 'width_multiplier=0.0 must be positive.'),
        ({'num_classes': 0}, 'num_classes=0 must be positive.'),
        ({'dropout_rate': 1.0}, 'model.dropout_rate=1.0 must be in [0, 1).'),
        ({'dtype': 'int8'}, "model.dtype='int8' is unknown. Known: bfloat16, float16, float32, float64."),
    ],
)
def test_wrong_values(kwargs, message):
    assert _message(create_model, 'mobilenet_v2', **kwargs) == message
