"""Which layers of a file are its classifier, whatever they are called: networks are fine-tuned with heads of one's own.

`model.classifier[1] = nn.Linear(...)` keeps torchvision's name, `model.classifier = nn.Linear(...)` and Keras's
`Dense(5)` on a base without top do not, and a network that was saved without its top has none.
"""

import re

from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.names import NameMap


def classifier(file: WeightFile, name_map: NameMap) -> tuple[str, ...]:
    """The names of the layers that make up the classifier: one in our networks; none, or more, in files.

    Args:
        file: with the layers' names.
        name_map: gives the implementation's name of the classifier, and so its place.
    """
    if file.contents.classifier is not None:
        return file.contents.classifier
    dense = _dense_layers(file)
    if file.layout == 'keras':  # the networks of keras.applications have no other dense layers
        named = [name_map.logits] if f'{name_map.logits}/kernel' in file.arrays else []
        return tuple(dict.fromkeys(named + dense))
    if file.layout != 'pytorch':
        return (name_map.logits,)
    root = name_map.logits.partition('.')[0]
    inside = [name for name in dense if name == root or name.startswith(f'{root}.')]
    if name_map.logits in inside:  # layers before it may belong to our network, layers after it do not
        return (name_map.logits, *(name for name in inside if _place(name) > _place(name_map.logits)))
    replaced = [name for name in inside if name.startswith(f'{name_map.logits}.')]
    return tuple(replaced or inside)


def _dense_layers(file: WeightFile) -> list[str]:
    suffix = LAYOUTS[file.layout].suffixes['dense']['kernel']
    kernels = [(name, array) for name, array in file.arrays.items() if name.endswith(suffix)]
    return [name.removesuffix(suffix) for name, array in kernels if array.ndim == 2]


def _place(name: str) -> list[int]:
    return [int(number) for number in re.findall(r'\d+', name)]
