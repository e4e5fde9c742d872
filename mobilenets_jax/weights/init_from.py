"""Where a run's variables come from: published weights, or a checkpoint of another run."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilenets_jax.errors import UserError, check
from mobilenets_jax.hosts import warn
from mobilenets_jax.identity import CLASSIFICATION, DETECTION, NETWORK_FIELDS, SEGMENTATION, field_name
from mobilenets_jax.models.tails import FULL
from mobilenets_jax.trees import describe_leaf, named_leaves
from mobilenets_jax.weights.cards.detection import COCO_CLASSES
from mobilenets_jax.weights.pretrained import Pretrained, load_for_field
from mobilenets_jax.weights.trained import is_folder, read_trained

PyTree = Any

FIELD = 'init_from'  # as users know it
_BACKBONE = ('params/backbone/', 'batch_stats/backbone/')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """Which variables of a network a new head starts afresh.

    Attributes:
        name: what messages call it.
        owns: whether a variable belongs to it, by its path.
        from_zeros: whether it starts from zeros, or as the network draws it.
        spare: whether weights may have more variables than the network, such as those of a last convolution that
            classifiers alone have; they are left out, which one line on standard error says.
        of_classes: whether a variable, of those that it owns, has to do with the classes. Where the weights have all
            others, in the same shapes, only those start afresh.
        own_fields: the fields of the network, by dotted path, that are the run's though the weights have others: those
            that a new head needs, and that change the shape of no variable.
    """

    name: str
    owns: Callable[[str], bool]
    from_zeros: bool
    spare: bool
    of_classes: Callable[[str], bool] = lambda path: True
    own_fields: tuple[str, ...] = ()


LOGITS = Head(name='classifier', owns=lambda path: path.startswith('params/logits/'), from_zeros=True, spare=False)
# Two successive layers of zeros would have no gradient: a head with more than one layer starts at random.
ALL_BUT_BACKBONE = Head(
    name='head',
    owns=lambda path: not path.startswith(_BACKBONE),
    from_zeros=False,
    spare=True,
    own_fields=('model.output_stride',),
)
# The extra layers and the boxes of a detector are the same whatever its classes.
DETECTION_HEAD = dataclasses.replace(
    ALL_BUT_BACKBONE,
    of_classes=lambda path: path.startswith('params/head/classes') and '/project/' in path,
)


class StartingPoint(NamedTuple):
    """What a run starts from.

    Attributes:
        variables: 'params' and 'batch_stats'.
        fields: of the config, by dotted path, that they need and the command line does not set.
        folded: whether the batch norms are identities, folded into the convolutions.
        class_names: of a run, in the order of the labels; None: its checkpoint does not name them; (): of published
            weights, which have none to compare.
        task: of the weights, a key of `tasks.TASKS`.
    """

    variables: PyTree
    fields: dict[str, Any]
    folded: bool
    class_names: tuple[str, ...] | None
    task: str = CLASSIFICATION


def starting_point(
    source: str, overrides: Mapping[str, Any], *, head: Head = LOGITS, new_head: bool = False
) -> StartingPoint:
    """Reads published weights, or a checkpoint of a run: its averaged parameters, where it has some.

    Args:
        source: a file; a name in `CARDS`; or the workdir of a run, whose newest intact checkpoint is taken, its folder
            of checkpoints, or that of one step. Local, perhaps with ~, or gs://.
        overrides: what the command line sets of the config, by dotted path.
        head: of the run's network.
        new_head: whether the head starts afresh, so that the weights need none.

    Raises:
        UserError: there is no such thing, or it is damaged.
    """
    kept = {*overrides, *(head.own_fields if new_head else ())}
    if is_folder(source, f'{FIELD}={source!r}'):
        return _checkpoint(source, kept)
    network = {name: overrides.get(f'model.{name}') for name in ('convention', 'width_multiplier')}
    network |= {'image_size': overrides.get('image_size'), 'normalization': overrides.get('data.normalization')}
    network['num_classes'] = 1 if new_head else None  # `fit` puts a head of the data's classes there
    pretrained = load_for_field(FIELD, source, overrides.get('model.name'), **network, task=None)
    fields = config_fields(pretrained)
    fields = {name: fields[name] for name in NETWORK_FIELDS if name not in kept}
    return StartingPoint(
        pretrained.variables, fields, pretrained.card.folded, class_names=(), task=pretrained.card.task
    )


def _checkpoint(source: str, kept: Collection[str]) -> StartingPoint:
    trained = read_trained(source, f'{FIELD}={source!r}')
    fields = {path: trained.fields[field_name(path)] for path in NETWORK_FIELDS if path not in kept}
    return StartingPoint(trained.variables, fields, False, trained.class_names, trained.task)


def describe_replaced(start: StartingPoint, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> str | None:
    """Which fields that a config's file sets the weights replace, in one line; None if there are none.

    Args:
        start: the variables that the run starts from.
        config: before they are replaced, nested.
        defaults: the default values of the fields, nested.
    """
    replaced = []
    for path, value in start.fields.items():
        section, field = path.split('.')
        before = config[section][field]
        if before not in (value, defaults[section][field]):
            replaced.append(f'{path}={value!r} instead of {before!r}')
    return (
        f'init_from replaces {len(replaced)} field(s) of the config file: {", ".join(replaced)}' if replaced else None
    )


def config_fields(pretrained: Pretrained) -> dict[str, Any]:
    """The config, by dotted path, that a network with published weights needs."""
    card, preprocessing, model = pretrained.card, pretrained.card.preprocessing, pretrained.model
    of_a_run = {'model.dtype': model.settings.dtype.name} if card.class_names and card.task == CLASSIFICATION else {}
    return {
        **of_a_run,
        'model.name': card.model,
        'model.table': card.fields.get('table', ''),
        'model.width_multiplier': card.width_multiplier,
        'model.convention': card.convention,
        'model.tail': card.fields.get('tail', FULL),
        'model.num_removed_strides': card.fields.get('num_removed_strides', 0),
        'model.output_stride': model.output_stride,
        'model.bn_epsilon': model.settings.bn_epsilon,
        'model.divisor': model.spec.convention.divisor,
        'model.padding': model.settings.padding,
        'model.activation': card.fields.get('activation'),
        'model.num_classes': model.num_classes,
        'data.normalization': preprocessing.normalization,
        **_OF_TASKS[card.task](pretrained),
    }


def _of_classifier(pretrained: Pretrained) -> dict[str, Any]:
    preprocessing = pretrained.card.preprocessing
    return {
        'image_size': preprocessing.image_size,
        'data.eval_crop': preprocessing.crop,
        'data.crop_fraction': preprocessing.crop_fraction,
        'data.interpolation': preprocessing.interpolation,
    }


def _of_detector(pretrained: Pretrained) -> dict[str, Any]:
    preprocessing, fields = pretrained.card.preprocessing, pretrained.card.fields
    others = dict(fields.get('head_fields', ()))
    check(not others, 'weights', pretrained.card.name, f'has a head whose {", ".join(others)} no config can have')
    size = preprocessing.image_size
    found = {'image_size': (size, size), 'data.resize': preprocessing.resize, 'detection.head': fields['head']}
    sparse = tuple(pretrained.class_names) == COCO_CLASSES
    return found | ({'data.coco_ids': 'sparse'} if sparse else {})


def _of_segmenter(pretrained: Pretrained) -> dict[str, Any]:
    """The head, and for a network of one input size the resize; all others take images as they are."""
    preprocessing, fields = pretrained.card.preprocessing, pretrained.card.fields
    head = {f'segmentation.{name}': value for name, value in dict(fields.get('head_fields', ())).items()}
    resize = {'data.eval_resize': preprocessing.image_size} if preprocessing.crop == 'padded' else {}
    return {'segmentation.head': fields['head'], **head, **resize}


_OF_TASKS = {CLASSIFICATION: _of_classifier, SEGMENTATION: _of_segmenter, DETECTION: _of_detector}


def fit(
    variables: Mapping[str, PyTree],
    target: Mapping[str, PyTree],
    source: str,
    *,
    head: Head = LOGITS,
    new_head: bool = False,
) -> PyTree:
    """`variables` in the structure of `target`.

    Args:
        variables: 'params' and 'batch_stats'.
        target: the same of the network that is asked for, as it is drawn; of the values those of the head are looked
            at, where it starts afresh but not from zeros, and only names, shapes and dtypes of all others.
        source: where the variables come from, for messages, e.g. "init_from='w.pth'".
        head: of the network.
        new_head: whether the head starts afresh.

    Raises:
        UserError: they differ; the message names the first array that does.
    """
    found, asked = named_leaves(dict(variables)), named_leaves(dict(target))
    if new_head:
        is_fresh = fresh_variables(variables, target, head)
        found = {name: leaf for name, leaf in found.items() if not is_fresh(name)}
        if head.spare:
            found = _without_spare(found, asked, source)
        fresh = {name: leaf for name, leaf in asked.items() if is_fresh(name)}
        if head.from_zeros:
            fresh = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in fresh.items()}
        found |= fresh
    for name in asked | found:
        has, wants = (describe_leaf(leaves[name]) if name in leaves else 'nothing' for leaves in (found, asked))
        if has != wants:
            hint = f' With new_head=True the {head.name} starts afresh.' if head.owns(name) else ''
            raise UserError(f'{source} has {has} at {name}; the config asks for {wants}.{hint}')
    return jax.tree.unflatten(jax.tree.structure(dict(target)), [found[name] for name in asked])


def fresh_variables(variables: Mapping[str, PyTree], target: Mapping[str, PyTree], head: Head) -> Callable[[str], bool]:
    """Which variables start afresh with a new head, by their path.

    Args:
        variables: see `fit`.
        target: see `fit`.
        head: of the network.
    """
    found, asked = named_leaves(dict(variables)), named_leaves(dict(target))
    others = [name for name in asked if head.owns(name) and not head.of_classes(name)]
    if others and all(name in found and describe_leaf(found[name]) == describe_leaf(asked[name]) for name in others):
        return lambda path: head.owns(path) and head.of_classes(path)
    return head.owns


def _without_spare(found: Mapping[str, Any], asked: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The variables that the network has; one line on standard error counts those left out."""
    spare = [name for name in found if name not in asked]
    if spare:
        warn(f'{source}: {len(spare)} array(s) that the network does not have are left out, e.g. {spare[0]}')
    return {name: leaf for name, leaf in found.items() if name in asked}
