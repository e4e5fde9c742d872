"""The section `distillation` of a config: the task with a teacher, and the teacher itself, read from its file."""

import functools

from mobilenets_jax.config import ConfigView
from mobilenets_jax.config_use import fields_in_use
from mobilenets_jax.data import Dataset
from mobilenets_jax.data.augmentation import change_normalization
from mobilenets_jax.errors import check
from mobilenets_jax.hosts import check_agreement, warn
from mobilenets_jax.identity import NETWORK_FIELDS, check_classes
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.distillation import DistilledTask, Teacher
from mobilenets_jax.training.state import tree_sha256
from mobilenets_jax.weights.init_from import config_fields
from mobilenets_jax.weights.pretrained import load_for_field

FIELD = 'distillation.teacher'


def with_teacher(config: ConfigView, task: ClassificationTask) -> ClassificationTask | DistilledTask:
    """The task, or where the config names a teacher the task that also learns from it; does not read the teacher."""
    if not config.distillation.teacher:
        return task
    fields = fields_in_use(config, 'distillation')
    del fields['teacher']
    return DistilledTask(task=task, **fields)


def read_teacher(config: ConfigView, dataset: Dataset, student: ImageClassifier) -> Teacher | None:
    """The teacher that the config names, the same on every process; None: it names none.

    Raises:
        UserError: it cannot be read, it knows other classes, or the processes have read different ones.
    """
    source = config.distillation.teacher
    if not source:
        return None
    label = f'{FIELD}={source!r}'
    pretrained = load_for_field(FIELD, source)
    model, card = pretrained.model, pretrained.card
    wanted = f'has {model.num_classes} classes, where the network has {student.num_classes}'
    check(model.num_classes == student.num_classes, FIELD, source, wanted)
    if card.class_names:
        data = f'data.dir={config.data.dir!r}' if config.data.dir else f'data.name={config.data.name!r}'
        check_classes(label, card.class_names, dataset.class_names, data, exact=False)
    height, width = dataset.train_signature['image'].shape[:2]
    size = card.preprocessing.image_size
    if (height, width) != (size, size):
        warn(f'{label} is for images of {size} px; it gets those of the run, {height} x {width} px')
    fields = config_fields(pretrained)
    facts = {'variables': tree_sha256(pretrained.variables), **{path: fields[path] for path in NETWORK_FIELDS}}
    check_agreement({f'{label}: {name}': fact for name, fact in facts.items()})
    normalizations = {'before': config.data.normalization, 'after': card.preprocessing.normalization}
    return Teacher(
        model=model,
        variables=pretrained.variables,
        to_input=functools.partial(change_normalization, **normalizations),
        source=label,
        facts=facts,
    )
