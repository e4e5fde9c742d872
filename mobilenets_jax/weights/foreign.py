"""What a file of no known network seems to be, by the names of its arrays: a reason that its owner understands."""

import re

import numpy as np

MAX_LISTED = 3

# What is found in the names of a network's arrays -> the network.
_KINDS = {
    r'\.attn\.|\.self_attn|attention|cls_token': 'a transformer',
    r'(?:^|\.)denseblock\d|conv\d_block\d+_\d_': 'a DenseNet or a ResNet of Keras',
    r'(?:^|\.)layer[1-4]\.\d+\.(?:conv\d|bn\d|downsample)': 'a ResNet that this family does not have',
    r'(?:^|\.)fire\d|features\.\d+\.squeeze': 'a SqueezeNet',
    r'Mixed_\d|(?:^|\.)inception': 'an Inception network',
    r'(?:^|\.)blocks\.\d+\.\d+\.(?:conv_|dw_)': 'a network of timm that this family does not have',
    r'^block\d[a-z]_|stem_conv': 'an EfficientNet of Keras',
    r'classification_head|regression_head|box_predictor|\.anchors?': 'an object detector',
    r'(?:^|\.)classifier\.(?:cbr|low_classifier|high_classifier)|aspp|decoder': 'a segmentation network',
    r'^mobilenet_v[12]\.(?:conv_stem|layer)': "a MobileNet of the library transformers, whose names are not timm's",
    r'^conv1_1|^features\.\d+\.(?:weight|bias)$': 'a plain stack of convolutions, such as VGG or AlexNet',
    r'^(?:weight_ih|weight_hh|lstm|gru)|\.weight_ih': 'a recurrent network',
    r'lora_[AB]': 'a LoRA adapter',
}


def describe(arrays: dict[str, np.ndarray]) -> str:
    """One clause about the arrays of a file."""
    if not arrays:
        return 'it holds no weights'
    kernels = [(name, array) for name, array in arrays.items() if array.ndim > 1] or list(arrays.items())
    shown = ', '.join(f'{name} {list(array.shape)}' for name, array in kernels[:MAX_LISTED])
    count = f'it has {len(arrays)} array{"s" * (len(arrays) != 1)}, such as {shown}'
    for pattern, kind in _KINDS.items():
        if any(re.search(pattern, name) for name in arrays):
            return f'its names are those of {kind}; {count}'
    return f'its names are none of torchvision, timm, Keras or slim; {count}'
