"""Every task by name: `config.task` chooses one of `TASKS`, and no other code distinguishes tasks.

A new task is a class that keeps the contract of `definition.TaskDefinition`, a line in `TASKS`, and its own fields of
the config in `configs/base.py`.
"""

from mobilenets_jax.errors import check_choice
from mobilenets_jax.identity import CLASSIFICATION, DETECTION, SEGMENTATION
from mobilenets_jax.tasks.classification import Classification
from mobilenets_jax.tasks.definition import TaskDefinition
from mobilenets_jax.tasks.detection import Detection
from mobilenets_jax.tasks.segmentation import Segmentation

TASKS: dict[str, TaskDefinition] = {
    CLASSIFICATION: Classification(),
    SEGMENTATION: Segmentation(),
    DETECTION: Detection(),
}


def get_task(name: str) -> TaskDefinition:
    """The task `name`; raises `UserError` naming the known ones."""
    check_choice('task', name, TASKS)
    return TASKS[name]
