"""Published weights, or a checkpoint of a run, as a model and its variables: `load_pretrained`."""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.checkpoints import find_checkpoints, stored_identity
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.hosts import broadcast_from_primary
from mobilenets_jax.identity import CLASSIFICATION, DETECTION, SEGMENTATION, task_of
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.tails import FULL
from mobilenets_jax.tables import output_names
from mobilenets_jax.weights.cache import fetch
from mobilenets_jax.weights.cards import CARDS, PREPROCESSING, Preprocessing, WeightCard
from mobilenets_jax.weights.cards.detection import COCO_CLASSES
from mobilenets_jax.weights.cards.segmentation import VOC_CLASSES
from mobilenets_jax.weights.files import WeightFile, read
from mobilenets_jax.weights.identify import FileNetwork, identify
from mobilenets_jax.weights.identify import task_of as task_of_file
from mobilenets_jax.weights.imagenet import class_names
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.network import trace
from mobilenets_jax.weights.remote import local_file
from mobilenets_jax.weights.timm_facts import TimmFacts, timm_facts, with_facts
from mobilenets_jax.weights.trained import Trained, create_network, is_folder, preprocessing, read_trained
from mobilenets_jax.weights.wrappers import unwrapped

PyTree = Any

IMAGENET_CLASSES = 1000
# Task and number of classes -> the names of the classes of weights that state none.
_CLASS_NAMES = {
    (SEGMENTATION, len(VOC_CLASSES)): VOC_CLASSES,
    (DETECTION, len(VOC_CLASSES) - 1): VOC_CLASSES[1:],  # without the background
    (DETECTION, len(COCO_CLASSES)): COCO_CLASSES,
}


class Pretrained(NamedTuple):
    """A network with trained weights.

    Attributes:
        model: its `apply(variables, images, train=...)` returns logits and endpoints.
        variables: 'params' and 'batch_stats', float32 NumPy arrays (float64 of a run in float64).
        card: where they are from and how images become the network's input.
    """

    model: FileNetwork
    variables: PyTree
    card: WeightCard

    @property
    def class_names(self) -> list[str]:
        """A name for each class.

        The checkpoint's own; of published weights ImageNet's for 1000 classes, Pascal VOC's for the 21 of a
        segmentation network and the 20 of a detector, and COCO's for its 90; else 'class 0', ...
        """
        count = self.model.num_classes
        names = self.card.class_names or _CLASS_NAMES.get((self.card.task, count), ())
        return output_names(names, count) if names else class_names(count)


def task_of_source(source: str) -> str:
    """The task, a key of `tasks.TASKS`, of a run, by its newest checkpoint that can be read, or of published weights.

    Args:
        source: as `load_pretrained` takes it.

    Raises:
        UserError: a file or a bucket cannot be read.
    """
    if source in CARDS:
        return CARDS[source].task
    if not is_folder(source, f'weights={source!r}'):
        with local_file(source) as path:
            return task_of_file(unwrapped(read(path), source))

    def ask() -> str:
        found = find_checkpoints(source)
        return task_of(found and stored_identity(found[0]) or {})

    return broadcast_from_primary(ask)


def load_pretrained(
    path_or_name: str,
    model: str | None = None,
    num_classes: int | None = None,
    *,
    convention: str | None = None,
    width_multiplier: float | None = None,
    image_size: int | None = None,
    normalization: str | None = None,
    step: int | str | None = None,
    params: str | None = None,
    option: str = 'weights',
    task: str | None = CLASSIFICATION,
) -> Pretrained:
    """Loads weights from a file, a run, or by the name of a card, which is downloaded once.

    The network, its width and its number of classes are found in the file. A head of 1001 classes loses its first, the
    background, unless `num_classes` is 1001; a head of one logit (a sigmoid's) becomes the equal one of two classes.
    Lines on standard error say what had to be assumed or was left out.

    Args:
        path_or_name: a .pth, .safetensors, .h5, .keras or .tflite file, the prefix of a TensorFlow checkpoint, a tar
            archive of one of these, local or gs://, or a name in `CARDS`; or the workdir of a run of this project, its
            folder of checkpoints or one of them.
        model: the architecture that the file must have; None: any.
        num_classes: if it is not the file's number, the network gets a new head of zeros, to be trained; also if the
            file has no classifier, or one that this project's networks cannot have.
        convention: of the padding and constants of the network; by default that of the card, or of the implementation
            that named the layers. The names of the layers do not distinguish timm's ports of TensorFlow's weights
            ('tf') from its own: this is read from timm's config.json next to the file, or from a timm model's name in
            the file's name.
        width_multiplier: the width that the file must have; None: any.
        image_size: height and width of the images that the network takes, in pixels, where the file does not say it.
        normalization: the range of its input, a key of `data.options.NORMALIZATIONS`, where the file does not say it.
        step: of a run, which checkpoint; 'best': the one with the best metric; None: the newest intact one.
        params: of a run, 'ema' (the default: averaged parameters where it has some) or 'raw'.
        task: the required task of the network: 'classification', 'segmentation' or 'detection'; None: any.
        option: the user's name of `path_or_name`, for messages on standard error.

    Raises:
        UserError: the file is missing or damaged, or its network is not known or not the requested one.
    """
    from_caller = {'convention': convention, 'width_multiplier': width_multiplier}
    from_caller |= {'image_size': image_size, 'normalization': normalization}
    if path_or_name not in CARDS and is_folder(path_or_name, f'{option}={path_or_name!r}'):
        trained = read_trained(path_or_name, f'weights={path_or_name!r}', step=step, params=params or 'ema')
        network, variables, card, notes = _of_a_run(path_or_name, model, from_caller, trained)
    else:
        for name, value in (('step', step), ('params', params)):
            check(value is None, name, value, f'is of a run, which weights={path_or_name!r} is not')
        network, variables, card, notes = _published(path_or_name, model, from_caller, new_head=num_classes is not None)
        if isinstance(network, ImageClassifier):
            if network.num_classes == IMAGENET_CLASSES + 1 and num_classes != network.num_classes:
                network, variables = _without_background(network, variables)
            if _is_one_logit(network, variables) and num_classes in (None, 2):
                network, variables = _with_two_logits(network, variables)
                notes.append(
                    'its one logit is taken for a sigmoid of class 1, and class 0 gets the logit 0, which is the same.'
                )
    asked = task is None or task == card.task
    check(asked, option, path_or_name, f'is a network for {card.task}, where one for {task} is asked for')
    if num_classes not in (None, network.num_classes):
        network, variables = _with_new_head(network, variables, num_classes)
        card = dataclasses.replace(card, class_names=())
        notes.append('its classifier is left out: a new one takes its place.')
    for note in notes:
        print(f'{option}={path_or_name!r}: {" ".join(note.split())}', file=sys.stderr, flush=True)
    return Pretrained(network, variables, card)


def load_for_field(field: str, source: str, *args: Any, **options: Any) -> Pretrained:
    """`load_pretrained` of the value of a field of the config, which its messages name.

    Args:
        field: dotted, e.g. 'init_from'.
        source: as `load_pretrained` takes it; local ones perhaps with ~.
        *args: as of `load_pretrained`, behind the source.
        **options: likewise.
    """
    try:
        return load_pretrained(os.path.expanduser(source), *args, **options, option=field)
    except UserError as error:  # the readers know their file by the option of eval.py and predict
        message = str(error)
        raise UserError(message.replace('weights=', f'{field}=', int(message.startswith('weights=')))) from error


Loaded = tuple[FileNetwork, PyTree, WeightCard, list[str]]  # and what is to be said of them


def _of_a_run(source: str, model: str | None, from_caller: Mapping[str, Any], trained: Trained) -> Loaded:
    """A checkpoint of a run, whose network and input are known; the caller may only set another image size."""
    label = f'weights={source!r}'
    check(trained.task == CLASSIFICATION, 'weights', source, f'is a run of the task {trained.task!r}, no classifier')
    known = trained.fields
    for name, value in {'model': model, **from_caller}.items():
        fits = name == 'image_size' or value in (None, known[name])
        check(fits, name, value, f'is not that of {label}, which has {known.get(name)!r}')
    usual = {'table': '', 'tail': FULL, 'num_removed_strides': 0, 'activation': None}
    fields = {name: trained.fields[name] for name in usual if trained.fields[name] != usual[name]}
    card = WeightCard(
        name=source,
        model=trained.fields['model'],
        width_multiplier=trained.fields['width_multiplier'],
        convention=trained.fields['convention'],
        fields=fields,
        preprocessing=_with(preprocessing(trained), {'image_size': from_caller['image_size']}),
        class_names=trained.class_names or (),
        ranges=trained.ranges,
    )
    notes = [] if trained.class_names else ['an older version saved it, without the names of its classes.']
    if trained.config.get('data', {}).get('name') == 'digits':
        size = card.preprocessing.image_size
        notes.append(f'it knows handwritten digits of 8x8 pixels, light on dark, enlarged to {size} px.')
    if trained.ranges:
        notes.append(
            'it was trained for 8 bit, to which only `eval.py --workdir` and `export --quantize=int8` round it.'
        )
    return create_network(trained), trained.variables, card, notes


def _published(path_or_name: str, model: str | None, from_caller: Mapping[str, Any], *, new_head: bool) -> Loaded:
    """Weights from a file or by a card's name; `from_caller` is what the caller says of their network and its input."""
    published = CARDS.get(path_or_name)
    card = published or _card_of(path_or_name)
    with local_file(str(fetch(published)) if published else path_or_name) as path:
        file = unwrapped(read(path, card.member if card else None), path_or_name)
        facts = timm_facts(file, str(path)) if card is None else TimmFacts()
    known = facts if card is None else card
    identity, network, variables = identify(
        file,
        path_or_name,
        model=model or known.model,
        convention=from_caller['convention'] or known.convention,
        width=from_caller['width_multiplier'] or known.width_multiplier,
        new_head=new_head,
    )
    notes = list(file.contents.notes)
    if card is None:
        card = WeightCard(
            name=path_or_name,
            task=identity.task,
            model=identity.name,
            width_multiplier=identity.width_multiplier,
            convention=identity.convention,
            preprocessing=with_facts(PREPROCESSING[identity.task][identity.source], facts),
        )
        notes += _assumptions(card, file, facts, from_caller, source=identity.source)
    stated = {'image_size': file.contents.image_size, 'normalization': file.contents.normalization}
    of_input = {name: from_caller[name] for name in stated}
    card = dataclasses.replace(
        card,
        convention=identity.convention,
        fields=identity.all_fields,
        folded=LAYOUTS[file.layout].folded,
        preprocessing=_with(_with(card.preprocessing, stated), of_input),
    )
    return network, variables, card, notes


def _assumptions(
    card: WeightCard, file: WeightFile, facts: TimmFacts, from_caller: Mapping[str, Any], *, source: str
) -> list[str]:
    """A note on the facts about input and convention that neither file nor caller states; [] if all are stated."""
    preprocessing, assumed, fields = card.preprocessing, [], []
    for name, value, field in (
        ('image_size', f'{preprocessing.image_size} px', 'image_size'),
        ('normalization', f'the range {preprocessing.normalization!r}', 'data.normalization'),
    ):
        if (getattr(file.contents, name), from_caller[name]) == (None, None) and name not in facts.preprocessing:
            assumed.append(value)
            fields.append(f'--config.{field}')
    if (
        source == 'timm'
        and facts.convention is None
        and from_caller['convention'] is None
        and card.model.startswith('mobilenet_v3')
    ):
        assumed.append("padding and epsilon of timm's own networks, not of its tf_ ones")
        fields.append('--config.model.convention=tf with the range symmetric')
    if not assumed:
        return []
    return [
        f'the file does not say what its input is; assumed: {", ".join(assumed)}. Otherwise set {", ".join(fields)}.'
    ]


def _with(preprocessing: Preprocessing, fields: Mapping[str, Any]) -> Preprocessing:
    """`preprocessing` with those fields that are known."""
    return dataclasses.replace(preprocessing, **{field: value for field, value in fields.items() if value is not None})


def _card_of(path: str) -> WeightCard | None:
    """The card of a local file, by the name that it was published under."""
    if ':' in path and not is_bucket(path) and not pathlib.Path(path).exists():
        known = ', '.join(name for name in CARDS if name.partition(':')[0] == path.partition(':')[0])
        raise UserError(f'weights={path!r} is no file and no card. Known: {known or ", ".join(CARDS)}.')
    name = pathlib.Path(path).name
    return next((card for card in CARDS.values() if card.file_name == name), None)


def _without_background(network: ImageClassifier, variables: PyTree) -> tuple[ImageClassifier, PyTree]:
    logits = {name: np.ascontiguousarray(leaf[..., 1:]) for name, leaf in variables['params']['logits'].items()}
    return network.clone(num_classes=IMAGENET_CLASSES), _with_logits(variables, logits)


def _with_new_head(network: FileNetwork, variables: PyTree, num_classes: int) -> tuple[FileNetwork, PyTree]:
    """The network with zeros in those layers whose shape follows the number of classes."""
    check(num_classes > 0, 'num_classes', num_classes, 'must be positive')
    network = network.clone(num_classes=num_classes)
    shapes = {leaf: shape for layer in trace('', network).layers for leaf, shape in layer.shapes.items()}
    leaves = {
        path: leaf if leaf.shape == shapes[path] else np.zeros(shapes[path], np.float32)
        for path, leaf in flatten_dict(variables, sep='/').items()
    }
    return network, unflatten_dict(leaves, sep='/')


def _is_one_logit(network: ImageClassifier, variables: PyTree) -> bool:
    return network.num_classes == 1 and variables['params']['logits']['kernel'].any()


def _with_two_logits(network: ImageClassifier, variables: PyTree) -> tuple[ImageClassifier, PyTree]:
    """The softmax of (0, z) is the sigmoid of z."""
    old = variables['params']['logits']
    logits = {name: np.concatenate([np.zeros_like(leaf), leaf], axis=-1) for name, leaf in old.items()}
    return network.clone(num_classes=2), _with_logits(variables, logits)


def _with_logits(variables: PyTree, logits: PyTree) -> PyTree:
    return {**variables, 'params': {**variables['params'], 'logits': logits}}
