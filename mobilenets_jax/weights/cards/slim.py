"""The checkpoints and TFLite files of tensorflow/models research/slim.

Reference: research/slim/nets/mobilenet_v1.md@02c04f4 and mobilenet/README.md@0ba83cf: files and accuracies. The
    checkpoints are evaluated with the Inception preprocessing: the central 87.5 % of each side. No hash is published.
"""

from mobilenets_jax.weights.cards.card import Preprocessing, WeightCard

_GOOGLE = 'https://storage.googleapis.com'
_V1 = f'{_GOOGLE}/download.tensorflow.org/models/mobilenet_v1_2018_02_22'
_V2_QUANTIZED = f'{_GOOGLE}/download.tensorflow.org/models/tflite_11_05_08'
_CHECKPOINT, _TFLITE = '*.ckpt*', '*.tflite'

# Width -> (top-1, top-5) at each of the sizes.
_V1_SIZES = (224, 192, 160, 128)
_V1_ROWS = {
    1.0: ((70.9, 89.9), (70.0, 89.2), (68.0, 87.7), (65.2, 85.8)),
    0.75: ((68.4, 88.2), (67.2, 87.3), (65.3, 86.0), (62.1, 83.9)),
    0.5: ((63.3, 84.9), (61.7, 83.6), (59.1, 81.9), (56.3, 79.4)),
    0.25: ((49.8, 74.2), (47.7, 72.3), (45.5, 70.3), (41.5, 66.3)),
}
_V1_QUANTIZED_ROWS = {
    1.0: ((69.7, 89.5), (69.0, 88.9), (67.3, 87.7), (64.0, 85.5)),
    0.75: ((67.9, 88.1), (66.2, 87.1), (63.9, 85.5), (59.8, 82.8)),
    0.5: ((62.2, 84.5), (60.4, 83.2), (57.7, 81.3), (54.9, 78.9)),
    0.25: ((48.2, 73.8), (45.8, 71.9), (43.5, 69.1), (39.9, 65.8)),
}
_V2_SIZES = (224, 192, 160, 128, 96)
_V2_ROWS = {
    1.4: ((75.0, 92.5),),
    1.3: ((74.4, 92.1),),
    1.0: ((71.8, 91.0), (70.7, 90.1), (68.8, 89.0), (65.3, 86.9), (60.3, 83.2)),
    0.75: ((69.8, 89.6), (68.7, 88.9), (66.4, 87.3), (63.2, 85.3), (58.8, 81.6)),
    0.5: ((65.4, 86.4), (63.9, 85.4), (61.0, 83.2), (57.7, 80.8), (51.2, 75.8)),
    0.35: ((60.3, 82.9), (58.2, 81.2), (55.7, 79.1), (50.8, 75.0), (45.5, 70.4)),
}
_V3_ROWS = (
    # architecture, width, file, top-1
    ('mobilenet_v3_large', 1.0, 'v3-large_224_1.0_float', 75.2),
    ('mobilenet_v3_large', 1.0, 'v3-large_224_1.0_uint8', 73.9),
    ('mobilenet_v3_large', 0.75, 'v3-large_224_0.75_float', 73.3),
    ('mobilenet_v3_small', 1.0, 'v3-small_224_1.0_float', 67.5),
    ('mobilenet_v3_small', 1.0, 'v3-small_224_1.0_uint8', 64.9),
    ('mobilenet_v3_small', 0.75, 'v3-small_224_0.75_float', 65.4),
    ('mobilenet_v3_large_minimalistic', 1.0, 'v3-large-minimalistic_224_1.0_float', 72.3),
    ('mobilenet_v3_large_minimalistic', 1.0, 'v3-large-minimalistic_224_1.0_uint8', 71.3),
    ('mobilenet_v3_small_minimalistic', 1.0, 'v3-small-minimalistic_224_1.0_float', 61.9),
)

# Quantized files as this project reads them: in float, without the rounding of activations that they were trained for.
_MEASURED = {
    'tflite:mobilenet_v1_0.25_224': (55.4, 80.6),
    'tflite:mobilenet_v2_1.0_224_quant': (87.9, 97.6),
    'tflite:v3-small_224_1.0_uint8': (72.6, 92.7),
}


def _card(
    name: str, model: str, width: float, preprocessing: Preprocessing, url: str, member: str, **facts
) -> WeightCard:
    return WeightCard(
        name=name,
        model=model,
        width_multiplier=width,
        convention='tf',
        preprocessing=preprocessing,
        url=url,
        member=member,
        folded=member == _TFLITE,
        licence='Apache-2.0',
        **facts,
    )


def _inception(image_size: int) -> Preprocessing:
    return Preprocessing(image_size=image_size, crop='central_fraction')


def _slim_cards(model: str, sizes: tuple, rows: dict, root: str):
    for width, accuracies in rows.items():
        for size, (top1, top5) in zip(sizes, accuracies, strict=False):
            file = f'{model}_{width}_{size}'
            yield _card(
                f'slim:{file}', model, width, _inception(size), f'{root}/{file}.tgz', _CHECKPOINT, top1=top1, top5=top5
            )


def _tflite_card(model: str, width: float, image_size: int, url: str, **facts) -> WeightCard:
    name = f'tflite:{url.rpartition("/")[2].removesuffix(".tgz")}'
    preprocessing = Preprocessing(image_size=image_size, crop='rounded_resize_crop')
    return _card(name, model, width, preprocessing, url, _TFLITE, measured=_MEASURED.get(name), **facts)


def _tflite_cards():
    yield _tflite_card('mobilenet_v1', 0.25, 224, f'{_V1}/mobilenet_v1_0.25_224.tgz', top1=49.8, top5=74.2)
    for width, accuracies in _V1_QUANTIZED_ROWS.items():
        for size, (top1, top5) in zip(_V1_SIZES, accuracies, strict=True):
            url = f'{_V1}/mobilenet_v1_{width}_{size}_quant.tgz'
            yield _tflite_card('mobilenet_v1', width, size, url, top1=top1, top5=top5)
    yield _tflite_card('mobilenet_v2', 1.0, 224, f'{_V2_QUANTIZED}/mobilenet_v2_1.0_224_quant.tgz')
    for model, width, file, top1 in _V3_ROWS:
        yield _tflite_card(model, width, 224, f'{_GOOGLE}/mobilenet_v3/checkpoints/{file}.tgz', top1=top1)


CARDS = (
    *_slim_cards('mobilenet_v1', _V1_SIZES, _V1_ROWS, _V1),
    *_slim_cards('mobilenet_v2', _V2_SIZES, _V2_ROWS, f'{_GOOGLE}/mobilenet_v2/checkpoints'),
    *_tflite_cards(),
)
