"""The weights of keras.applications.

Reference: keras 3.15 applications/mobilenet.py, mobilenet_v2.py, mobilenet_v3.py: URLs, the MD5 sums of V3, V3's
    top-1. Keras prints no accuracy for the others and no evaluation crop; here the short side is resized to
    image_size / 0.875 and the centre cut out.
"""

from mobilenets_jax.weights.cards.card import Preprocessing, WeightCard

_ROOT = 'https://storage.googleapis.com/tensorflow/keras-applications'
_V1_WIDTHS = {1.0: '1_0', 0.75: '7_5', 0.5: '5_0', 0.25: '2_5'}
_MEASURED = {'keras:mobilenet_v1_0.25_224': (56.8, 81.0)}
_V3_ROWS = (
    # architecture, width, the name's middle, MD5, top-1
    ('mobilenet_v3_large', 1.0, 'large_224_1.0', '59e551e166be033d707958cf9e29a6a7', 75.6),
    ('mobilenet_v3_large', 0.75, 'large_224_0.75', '765b44a33ad4005b3ac83185abf1d0eb', 73.3),
    ('mobilenet_v3_large_minimalistic', 1.0, 'large_minimalistic_224_1.0', '675e7b876c45c57e9e63e6d90a36599c', 72.3),
    ('mobilenet_v3_small', 1.0, 'small_224_1.0', '8768d4c2e7dee89b9d02b2d03d65d862', 68.1),
    ('mobilenet_v3_small', 0.75, 'small_224_0.75', 'cb65d4e5be93758266aa0a7f2c6708b7', 65.4),
    ('mobilenet_v3_small_minimalistic', 1.0, 'small_minimalistic_224_1.0', '99cd97fb2fcdad2bf028eb838de69e37', 61.9),
)


def _card(model: str, width: float, image_size: int, file: str, **facts) -> WeightCard:
    name = f'keras:{model}_{width:g}_{image_size}' if width != 1 else f'keras:{model}_1.0_{image_size}'
    return WeightCard(
        name=name,
        model=model,
        width_multiplier=width,
        convention='keras',
        preprocessing=Preprocessing(image_size=image_size, crop='rounded_resize_crop'),
        url=f'{_ROOT}/{file}',
        licence='Apache-2.0',
        measured=_MEASURED.get(name),
        **facts,
    )


CARDS = (
    *(
        _card('mobilenet_v1', width, size, f'mobilenet/mobilenet_{text}_{size}_tf.h5')
        for width, text in _V1_WIDTHS.items()
        for size in (224, 192, 160, 128)
    ),
    *(
        _card(
            'mobilenet_v2',
            width,
            size,
            f'mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size}.h5',
        )
        for width in (1.4, 1.3, 1.0, 0.75, 0.5, 0.35)
        for size in ((224,) if width > 1 else (224, 192, 160, 128, 96))
    ),
    *(
        _card(model, width, 224, f'mobilenet_v3/weights_mobilenet_v3_{middle}_float.h5', digest=f'md5:{md5}', top1=top1)
        for model, width, middle, md5, top1 in _V3_ROWS
    ),
)
