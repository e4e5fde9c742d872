"""What the detectors promise: shapes, anchors in the order of the outputs, taps, and that fusing changes nothing."""

import functools
import json
import os
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fusing import check_fused_is_layer_by_layer

from mobilenets_jax.boxes.anchors import make_anchors, tf_anchors
from mobilenets_jax.errors import UserError
from mobilenets_jax.heads import DETECTION_HEADS, create_detector
from mobilenets_jax.heads.ssdlite import Ssdlite
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.ops.cpu import native

SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')).resolve()
ANCHORS = SHARED / 'weights' / 'ssd_anchors_300_1917_float32_ycxchw.npy'
V1, V2, LARGE, SMALL = 'mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_large', 'mobilenet_v3_small'


def abstract(model, height=96, width=160, train=False):
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init_with_output, train=train), jax.random.key(0), images)


@pytest.mark.parametrize('head', DETECTION_HEADS)
def test_outputs_of_an_image_that_is_not_square(head):
    """Maps of 6x10, 3x5, 2x3, 1x2, 1x1, 1x1; three or six anchors on the first, six (four on MobileNeXt's last)."""
    model = create_detector('mobilenext' if head == 'mobilenext' else SMALL, 7, head, dtype=jnp.bfloat16)
    (outputs, endpoints), variables = abstract(model)
    sizes = [(6, 10), (3, 5), (2, 3), (1, 2), (1, 1), (1, 1)]
    assert [endpoints[f'map{index}'].shape[1:3] for index in range(6)] == sizes
    numbers = {'torchvision': (6, 6), 'mobilenext': (6, 4)}.get(head, (3, 6))
    count = 60 * numbers[0] + 6 * (15 + 6 + 2 + 1) + numbers[1]
    assert outputs['codes'].shape == (2, count, 4) and outputs['logits'].shape == (2, count, 8)
    assert model.anchors((96, 160)).shape == (count, 4)
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs, variables))} == {jnp.dtype(jnp.float32)}
    assert set(variables['params']) == {'backbone', 'head'}


@pytest.mark.skipif(not ANCHORS.exists(), reason=f'{ANCHORS} is missing')
def test_anchors_are_those_of_a_released_network():
    anchors = create_detector(V2, 20).anchors((300, 300))
    np.testing.assert_allclose(anchors, np.load(ANCHORS), atol=3e-7)


def head_alone(head, extras=(), **settings):
    """A head for two classes on made-up endpoints of images of 64x128, with few maps: compiling takes long."""
    spec = DETECTION_HEADS[head].replace({'extras': extras, 'anchors': tf_anchors(num_maps=2 + len(extras))})
    module = Ssdlite(spec, LayerSettings(initializer=spec.initializer, **settings), num_classes=2)
    generator = np.random.default_rng(0)
    sizes = zip(spec.taps, ((4, 8), (2, 4)), strict=True)
    endpoints = {
        tap: jnp.asarray(generator.standard_normal((1, *size, 8)), module.settings.dtype) for tap, size in sizes
    }
    return module, endpoints


def filled(module, endpoints):
    """Variables in which nothing is as it begins."""
    generator = np.random.default_rng(1)

    def fill(path, leaf):
        noise = generator.standard_normal(leaf.shape)
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        values = {'kernel': noise * scale, 'bias': 0.1 * noise, 'mean': 0.1 * noise}
        return values.get(path[-1].key, np.exp(0.1 * noise)).astype(leaf.dtype)

    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), endpoints)
    return jax.tree_util.tree_map_with_path(fill, shapes)


def test_outputs_are_in_the_order_of_the_anchors():
    """With pointwise predictors a pixel of a map changes the anchors whose centre it is, and no others of that map."""
    module, endpoints = head_alone('ssd')
    variables, apply = filled(module, endpoints), jax.jit(functools.partial(module.apply, train=False))
    spotted = endpoints | {'C4/expansion': endpoints['C4/expansion'].at[0, 2, 5].add(1.0)}
    one, other = (apply(variables, values)[0] for values in (endpoints, spotted))
    anchors = make_anchors(module.spec.anchors, [(4, 8), (2, 4)], (64, 128))
    for name, columns in (('codes', 4), ('logits', 3)):
        assert one[name].shape == (1, len(anchors), columns)
        changed = np.flatnonzero(np.abs(one[name] - other[name])[0].max(axis=1))
        assert list(changed) == [63, 64, 65], name  # three at each location, row 2, column 5 of 8
    expected = [[0.1, 0.05], [0.02**0.5, 0.02**0.5], [0.08**0.5, 0.005**0.5]]
    np.testing.assert_allclose(anchors[63:66], [[2.5 / 4, 5.5 / 8, *size] for size in expected], rtol=1e-6)


def test_where_the_heads_stand():
    expected = {
        (V1, None, 1.0): (512, 1024),
        (V2, None, 1.0): (576, 1280),
        (LARGE, None, 1.0): (672, 960),
        (SMALL, None, 1.0): (288, 576),
        ('mobilenext', None, 1.0): (576, 1280),
        (V2, 'mobilenext', 1.0): (576, 960),
        ('shufflenet_v2', None, 1.0): (232, 1024),
    }
    for (name, head, width), channels in expected.items():
        _, variables = abstract(create_detector(name, 3, head, width))
        params = variables['params']['head']
        assert tuple(params[f'boxes{i}']['depthwise']['conv']['kernel'].shape[3] for i in (0, 1)) == channels, name


def test_extra_layers_follow_the_width_as_in_tensorflow_alone():
    for head, width, channels in (('tf', 0.75, [384, 192, 192, 96]), ('torchvision', 0.75, [512, 256, 256, 128])):
        _, variables = abstract(create_detector(V2, 3, head, width))
        extras = [variables['params']['head'][f'extra{number}']['expand'] for number in (1, 2, 3, 4)]
        assert [extra['conv']['kernel'].shape[3] for extra in extras] == channels
    _, variables = abstract(create_detector(V1, 3, 'ssd', 0.1))
    last = variables['params']['head']['extra4']
    assert last['reduce']['conv']['kernel'].shape == (1, 1, 25, 16)
    assert last['expand']['conv']['kernel'].shape == (3, 3, 16, 16)


def test_constants_of_the_head_and_of_the_backbone():
    """Released heads train the backbone by their own constants, unless the model has some."""
    for fields, momentum in (({}, 0.97), ({'bn_momentum': 0.5}, 0.5)):
        model, seen = create_detector(V2, 2, **fields), {}

        def record(call, args, kwargs, context, seen=seen):
            settings = getattr(context.module, 'settings', None)
            if settings is not None:
                seen['/'.join(context.module.path)] = settings
            return call(*args, **kwargs)

        with nn.intercept_methods(record):
            abstract(model)
        assert seen['backbone/stem/bn'].bn_momentum == momentum and seen['head/extra1/reduce/bn'].bn_momentum == 0.97
        assert seen['head/extra1/reduce/conv'].initializer == 'object_detection'
        assert seen['head/boxes0/depthwise/conv'].initializer == 'ssdlite'


def test_new_heads_find_nothing():
    """Every score begins at 0.01 with the focal loss's bias, at one in 1 + classes with a softmax."""
    for head, score in (('tf', 0.01), ('mobilenext', 0.01), ('torchvision', 1 / 3)):
        module, endpoints = head_alone(head)
        endpoints = jax.tree.map(jnp.zeros_like, endpoints)
        (outputs, _), _ = jax.jit(functools.partial(module.init_with_output, train=False))(jax.random.key(0), endpoints)
        scores = {'sigmoid': nn.sigmoid, 'softmax': nn.softmax}[module.spec.scores](outputs['logits'])
        np.testing.assert_allclose(scores, score, rtol=0.01)


@pytest.mark.parametrize('head', DETECTION_HEADS)
def test_a_head_comes_back_from_json(head):
    model = create_detector(V2, 2, head, 0.5, head_fields={'class_bias': -1.5})
    fields = json.loads(json.dumps(model.head_spec.to_fields()))
    assert fields == model.head_spec.to_fields()
    assert create_detector(V2, 2, width_multiplier=0.5, head_fields=fields).head_spec == model.head_spec


@pytest.mark.skipif(not native.is_available(), reason='no native ops for this CPU can be built here')
@pytest.mark.parametrize('head', ['tf', 'mobilenext'])
def test_fused_is_layer_by_layer(head):
    """The maps have several readers: the next one's layers and two predictors."""
    with jax.enable_x64(True):
        module, endpoints = head_alone(head, extras=[(8, 16)], dtype=jnp.dtype('float64'))
        variables = filled(module, endpoints)
        check_fused_is_layer_by_layer(module, variables, endpoints)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'head': 'yolo'}, "head='yolo' is unknown. Known: mobilenext, ssd, tf, torchvision."),
        ({'output_stride': 16}, 'model.output_stride=16 must be 32, for which the anchors are made.'),
        ({'num_classes': 0}, 'num_classes=0 must be positive.'),
        ({'tail': 'short'}, "model.tail='short' is unknown. Known: detection, full, segmentation."),
        ({'head_fields': {'filters': 6}}, "field of the head='filters' is unknown. Known: anchors, bn_epsilon"),
        ({'head_fields': {'scores': 'tanh'}}, "scores='tanh' is unknown. Known: sigmoid, softmax."),
        ({'head_fields': {'predictor': 'dense'}}, "predictor='dense' is unknown. Known: pointwise, separable."),
        ({'head_fields': {'extras': [256]}}, 'extras=[256] must be pairs of positive numbers of channels.'),
        ({'head_fields': {'anchors': tf_anchors(num_maps=5)}}, "anchors='5 maps' must be of 6 maps."),
    ],
)
def test_wrong_values(changes, message):
    with pytest.raises(UserError) as error:
        create_detector(**{'name': V2, 'num_classes': 3, **changes})
    assert str(error.value).startswith(message)


def test_a_tap_that_the_network_does_not_have():
    with pytest.raises(UserError, match="taps='C4/expanded' is unknown. Known: C1, C2, C3, "):
        abstract(create_detector(V2, 3, head_fields={'taps': ('C4/expanded', 'C5')}))
