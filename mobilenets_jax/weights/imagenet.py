"""The names of the 1000 ImageNet classes, in the order of their sorted WordNet ids: the order of all published heads.

Reference: `_IMAGENET_CATEGORIES` of torchvision 0.28 models/_meta.py, BSD-3-Clause, copyright Soumith Chintala 2016.
"""

import importlib.resources

from mobilenets_jax.tables import output_names


def class_names(num_classes: int) -> list[str]:
    """Names for the classes of a head: ImageNet's where it has 1000, else 'class 0', 'class 1', ..."""
    text = importlib.resources.files(__package__).joinpath('imagenet_classes.txt').read_text()
    names = text.splitlines()
    return names if len(names) == num_classes else output_names((), num_classes)
