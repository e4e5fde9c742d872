"""What the segmentation networks promise: shapes, names, sizes of the maps, and that fusing changes nothing."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering
from fusing import check_fused_is_layer_by_layer

from mobilenets_jax.errors import UserError
from mobilenets_jax.heads import create_segmenter
from mobilenets_jax.heads.aspp import pool_windows
from mobilenets_jax.models import create_model
from mobilenets_jax.ops.cpu import native

V2, LARGE, SMALL = 'mobilenet_v2', 'mobilenet_v3_large', 'mobilenet_v3_small'


def abstract(model, height=65, width=97, train=False):
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
    return jax.eval_shape(functools.partial(model.init_with_output, train=train), keys, images)


@pytest.mark.parametrize(
    ('head', 'output_stride', 'convention'),
    covering(['aspp', 'r_aspp', 'lr_aspp'], [8, 16, 32], ['tf', 'torchvision']),
)
def test_logits_have_the_size_of_the_images(head, output_stride, convention):
    model = create_segmenter(SMALL, 4, head, convention=convention, output_stride=output_stride, dtype=jnp.bfloat16)
    (logits, endpoints), variables = abstract(model)
    assert (logits.shape, logits.dtype) == ((2, 65, 97, 4), jnp.float32)
    features = (-(-65 // output_stride), -(-97 // output_stride))
    assert endpoints['C5'].shape[1:3] == features
    assert endpoints['head'].shape == (2, *((9, 13) if head == 'lr_aspp' else features), 4)
    assert set(variables['params']) == {'backbone', 'head'}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize('name', ['mobilenet_v1', 'mobilenet_edgetpu', 'mobilenext', 'shufflenet_v2', 'resnet50'])
def test_other_backbones(name):
    (logits, _), _ = abstract(create_segmenter(name, 3, 'lr_aspp'), train=True)
    assert logits.shape == (2, 65, 97, 3)


def test_the_backbone_has_the_classifiers_parameters_without_unused_ones():
    for name, left_out in ((V2, {'head_conv'}), (LARGE, set())):
        images = jnp.zeros((1, 33, 33, 3))
        init = functools.partial(create_model(name).init, train=False)
        classifier = jax.eval_shape(init, jax.random.key(0), images)['params']['backbone']
        _, variables = abstract(create_segmenter(name, 5))
        assert variables['params']['backbone'] == {key: classifier[key] for key in classifier if key not in left_out}


def test_where_the_heads_stand():
    """DeepLab's V2 ends with the blocks; its LR-ASPP taps the last depthwise at stride 8, torchvision's a block."""
    _, variables = abstract(create_segmenter(V2, 5, 'lr_aspp'))
    head = variables['params']['head']
    assert head['project']['conv']['kernel'].shape == (1, 1, 320, 128)
    assert head['low_logits']['kernel'].shape == (192, 5)
    assert set(head['gate']) == {'kernel', 'bias'}
    _, variables = abstract(create_segmenter(LARGE, 5, 'lr_aspp', tail='segmentation'))
    assert variables['params']['head']['low_logits']['kernel'].shape == (120, 5)
    assert variables['params']['head']['gate']['kernel'].shape == (480, 128)
    _, variables = abstract(create_segmenter(SMALL, 5, 'lr_aspp', convention='torchvision'))
    assert variables['params']['head']['low_logits']['kernel'].shape == (24, 5)
    assert set(variables['params']['head']['gate']) == {'kernel'}


def test_head_has_batch_norm_constants_of_its_own():
    model = create_segmenter(SMALL, 2, 'r_aspp', head_fields={'bn_momentum': 0.75})
    seen = {}

    def record(call, args, kwargs, context):
        settings = getattr(context.module, 'settings', None)
        if settings is not None:
            seen['/'.join(context.module.path)] = settings.bn_epsilon, settings.bn_momentum
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        abstract(model)
    assert seen['head/projection/bn'] == (1e-5, 0.75) and seen['backbone/stem/bn'] == (1e-3, 0.997)


def test_atrous_rates():
    """Branches of DeepLabv3, separable as deeplab has them: 1x1, and three of a depthwise and a 1x1 convolution."""
    _, variables = abstract(create_segmenter(V2, 2, 'aspp', head_fields={'atrous_rates': (6, 12, 18)}))
    head = variables['params']['head']
    branches = [f'aspp{i}_{layer}' for i in (1, 2, 3) for layer in ('depthwise', 'pointwise')]
    assert set(head) == {'image_pool', 'aspp0', *branches, 'projection', 'logits'}
    assert head['projection']['conv']['kernel'].shape == (1, 1, 5 * 256, 256)


def test_taps_and_strides():
    model = create_segmenter(V2, 2, head_fields={'low': 'block04/expansion'}, num_removed_strides=1, dropout_rate=0.25)
    (_, endpoints), variables = abstract(model)
    assert variables['params']['head']['low_logits']['kernel'].shape == (144, 2)
    assert endpoints['stem'].shape[1:3] == (65, 97) and endpoints['C5'].shape[1:3] == (5, 7)
    assert model.head_spec.dropout_rate == 0.25
    with pytest.raises(UserError, match="low='C3/depht' is unknown. Known: C1, C2, C3, C3/depthwise, C4, "):
        abstract(create_segmenter(V2, 2, head_fields={'low': 'C3/depht'}))


def test_windows_of_the_gate():
    """65x129 of 1025x2049 gives 2x5 windows, a crop of 769 one; larger windows are clipped to the map."""
    images = np.random.default_rng(0).standard_normal((2, 65, 129, 3)).astype(np.float32)
    pooled = np.asarray(pool_windows(jnp.asarray(images), 49, (16, 20)))
    assert pooled.shape == (2, 2, 5, 3)
    for i, j in ((0, 0), (1, 4), (1, 2)):
        window = images[:, 16 * i : 16 * i + 49, 20 * j : 20 * j + 49]
        np.testing.assert_allclose(pooled[:, i, j], window.mean((1, 2)), atol=1e-6)
    for size in (None, 200, 129):
        clipped = pool_windows(jnp.asarray(images), size, (16, 20))
        np.testing.assert_allclose(clipped, images.mean((1, 2), keepdims=True), atol=1e-6)
    wide = pool_windows(jnp.asarray(images), 100, (16, 20))
    assert wide.shape == (2, 1, 2, 3)
    np.testing.assert_allclose(wide[:, 0, 1], images[:, :, 20:120].mean((1, 2)), atol=1e-6)


@pytest.mark.skipif(not native.is_available(), reason='no native ops for this CPU can be built here')
@pytest.mark.parametrize(
    ('name', 'head', 'fields'),
    [
        (SMALL, 'lr_aspp', {'head_fields': {'filters': 16}}),
        pytest.param(
            V2,
            'aspp',
            {'width_multiplier': 0.35, 'head_fields': {'filters': 16, 'atrous_rates': (2,)}},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_fused_is_layer_by_layer(name, head, fields):
    with jax.enable_x64(True):
        fields['head_fields'] |= {'dropout_rate': 0.0}
        model = create_segmenter(name, 3, head, output_stride=16, tail='segmentation', dtype=jnp.float64, **fields)
        # The first blocks will do: the head is what is new here, and compiling takes long.
        model = model.clone(spec=dataclasses.replace(model.spec, blocks=model.spec.blocks[:5]))
        _, shapes = abstract(model)
        generator = np.random.default_rng(0)

        def fill(path, leaf):
            noise = generator.standard_normal(leaf.shape)
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return {'kernel': noise * scale, 'bias': 0.1 * noise, 'mean': 0.1 * noise}.get(
                path[-1].key, np.exp(0.1 * noise)
            )

        variables = jax.tree_util.tree_map_with_path(fill, shapes)
        images = generator.standard_normal((2, 65, 97, 3))
        check_fused_is_layer_by_layer(model, variables, images)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'head': 'unet'}, "head='unet' is unknown. Known: aspp, lr_aspp, r_aspp."),
        ({'output_stride': 4}, 'model.output_stride=4 is unknown. Known: 16, 32, 8.'),
        ({'num_classes': 0}, 'num_classes=0 must be positive.'),
        ({'tail': 'short'}, "model.tail='short' is unknown. Known: detection, full, segmentation."),
        ({'head_fields': {'rates': (6,)}}, "field of lr_aspp='rates' is unknown. Known: align_corners, bn_epsilon"),
        ({'head_fields': {'filters': 0}}, 'filters=0 must be positive.'),
        ({'head_fields': {'gate': 'tanh'}}, "gate='tanh' is unknown. Known: hard_sigmoid, sigmoid."),
        ({'head_fields': {'pool_strides': (0, 1)}}, 'pool_strides=(0, 1) must be two positive numbers.'),
        ({'head': 'aspp', 'head_fields': {'atrous_rates': (0,)}}, 'atrous_rates=(0,) must be positive integers.'),
        ({'head_fields': {'features': 'C4'}}, "features='C4' is unknown. Known: C5, last_block."),
        ({'head_fields': {'dropout_rate': 1.0}}, 'dropout_rate=1.0 must be in [0, 1).'),
    ],
)
def test_wrong_values(changes, message):
    with pytest.raises(UserError) as error:
        create_segmenter(**{'name': V2, 'num_classes': 3, **changes})
    assert str(error.value).startswith(message)
