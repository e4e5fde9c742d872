"""Published detectors, of the classes of Pascal VOC and of COCO.

Reference: the weight enumeration of torchvision 0.28 models/detection/ssdlite.py (AP on COCO val2017); PINTO0309/
    TensorflowLite-bin@b3ca9a8; tensorflow/tflite-support@dd3362e, whose file is named 1.0 and has width 0.75. A name of
    torchvision's ends in the first digits of the file's SHA-256.
Differs: the numbers of COCO's classes are 1 to 90, of which ten are not used; a network has a column for each.
"""

from mobilenets_jax.data.box_classes import BOX_CLASSES, COCO_CATEGORIES, sparse_names
from mobilenets_jax.weights.cards.card import Preprocessing, WeightCard

VOC_CLASSES = BOX_CLASSES['voc']
COCO_CLASSES = sparse_names(COCO_CATEGORIES)

_GITHUB = 'https://raw.githubusercontent.com'
_TFLITE = Preprocessing(image_size=300, crop='stretched', crop_fraction=1.0, resize='legacy')

CARDS = (
    WeightCard(
        name='tflite:ssdlite_mobilenet_v2_voc_300',
        task='detection',
        model='mobilenet_v2',
        convention='tf',
        fields={'head': 'tf'},
        preprocessing=_TFLITE,
        url=f'{_GITHUB}/PINTO0309/TensorflowLite-bin/main/models/'
        'ssdlite_mobilenet_v2_voc_300_integer_quant_with_postprocess.tflite',
        folded=True,
        licence='Apache-2.0',
        class_names=VOC_CLASSES,
    ),
    WeightCard(
        name='tflite:coco_ssd_mobilenet_v1_0.75_300',
        task='detection',
        model='mobilenet_v1',
        width_multiplier=0.75,
        convention='tf',
        fields={'head': 'ssd'},
        preprocessing=_TFLITE,
        url=f'{_GITHUB}/tensorflow/tflite-support/master/tensorflow_lite_support/cc/test/testdata/task/vision/'
        'coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite',
        folded=True,
        licence='Apache-2.0',
        class_names=COCO_CLASSES,
    ),
    WeightCard(
        name='torchvision:ssdlite320_mobilenet_v3_large.COCO_V1',
        task='detection',
        model='mobilenet_v3_large',
        convention='torchvision',
        fields={'head': 'torchvision', 'tail': 'detection'},
        preprocessing=Preprocessing(image_size=320, crop='stretched', crop_fraction=1.0),
        url='https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth',
        digest='sha256:a79551df',
        licence='BSD-3-Clause',
        ap=21.3,
        class_names=COCO_CLASSES,
    ),
)
