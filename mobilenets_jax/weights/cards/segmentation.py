"""Published segmentation networks, of the 21 classes of Pascal VOC.

Reference: deeplab/g3doc/model_zoo.md (mIoU of `mobilenetv2_dm05_coco_voc_trainaug_8bit` on VOC 2012 val: 69.65 %); the
    weight enumerations of torchvision 0.28 models/segmentation (mIoU on the images of COCO val2017 with VOC's classes);
    tensorflow/tflite-support for the range of the float file's input. A name of torchvision's ends in the first digits
    of the file's SHA-256.
"""

from mobilenets_jax.data.class_sets import CLASS_SETS
from mobilenets_jax.weights.cards.card import Preprocessing, WeightCard

VOC_CLASSES = CLASS_SETS['voc'].names

_TORCHVISION = (
    # model, head, file, digits of its SHA-256, mIoU
    ('lraspp_mobilenet_v3_large', 'lr_aspp', 'd234d4ea', 57.9),
    ('deeplabv3_mobilenet_v3_large', 'aspp', 'fc3c493d', 60.3),
)


def _card(name: str, **facts) -> WeightCard:
    return WeightCard(name=name, task='segmentation', class_names=VOC_CLASSES, **facts)


def _deeplab(name: str, image_size: int, url: str, **facts) -> WeightCard:
    return _card(
        f'tflite:{name}',
        model='mobilenet_v2',
        width_multiplier=0.5,
        convention='tf',
        fields={'head': 'r_aspp'},
        preprocessing=Preprocessing(image_size=image_size, crop='padded', crop_fraction=1.0),
        url=url,
        folded=True,
        licence='Apache-2.0',
        **facts,
    )


CARDS = (
    _deeplab(
        'deeplabv3_257_mv_gpu',
        257,
        'https://storage.googleapis.com/download.tensorflow.org/models/tflite/gpu/deeplabv3_257_mv_gpu.tflite',
    ),
    _deeplab(
        'deeplabv3_mnv2_dm05_pascal_quant',
        513,
        'https://raw.githubusercontent.com/google-coral/test_data/master/deeplabv3_mnv2_dm05_pascal_quant.tflite',
        miou=69.65,
    ),
    *(
        _card(
            f'torchvision:{name}.COCO_WITH_VOC_LABELS_V1',
            model='mobilenet_v3_large',
            convention='torchvision',
            fields={'head': head},
            preprocessing=Preprocessing(image_size=520, crop='short_side', crop_fraction=1.0, normalization='imagenet'),
            url=f'https://download.pytorch.org/models/{name}-{digits}.pth',
            digest=f'sha256:{digits}',
            licence='BSD-3-Clause',
            miou=miou,
        )
        for name, head, digits, miou in _TORCHVISION
    ),
)
