"""Runs of small networks of every task with random weights, saved as training saves them: tests take seconds."""

import argparse
import pathlib
import types
from collections.abc import Mapping

from model_cases import random_variables

from configs import base
from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView
from mobilenets_jax.identity import Identity, network_fields
from mobilenets_jax.inference import TrainedNetwork
from mobilenets_jax.tasks import get_task

SQUARE = 64  # pixels: shapes of parameters are the same at every size


def save_run(workdir: pathlib.Path, task: str, names: tuple[str, ...], fields: Mapping) -> None:
    """A run with the classes `names`, and with `fields` of the config, by dotted path."""
    config = ConfigView(base.get_config(task).to_dict()).updated(fields)
    classes = types.SimpleNamespace(num_classes=len(names), class_names=names, name='none')
    definition = get_task(task)
    model = definition.create_model(config, classes)
    network = {**network_fields(config.to_dict()), 'num_classes': len(names), **definition.identity_fields(model)}
    identity = Identity(fields=network, class_names=names, task=task)
    with CheckpointManager(workdir / 'checkpoints', identity=identity) as checkpoints:
        checkpoints.save(1, random_variables(model, SQUARE), meta={'config': config.to_dict()})


def load_run(workdir: pathlib.Path, task: str, **options) -> TrainedNetwork:
    """The network of the run as `export` gets it."""
    told = dict.fromkeys(('weights', 'step', 'params', 'normalization', 'image_size', 'convention'))
    return get_task(task).trained_network(argparse.Namespace(**{**told, 'workdir': str(workdir), **options}))
