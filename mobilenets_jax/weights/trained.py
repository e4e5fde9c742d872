"""A checkpoint of a run of this project as weights: its variables, its network, its classes and its input.

All of it is read from the checkpoint itself. The `config.json` in the run's folder is not read: it may
be of a later run.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from etils import epath

from mobilenets_jax.checkpoints import BEST, CheckpointManager, find_checkpoints
from mobilenets_jax.data import fields_of_source
from mobilenets_jax.data.options import ImageOptions
from mobilenets_jax.errors import UserError, check, check_choice, one_line
from mobilenets_jax.fake_quantization import float_statistics, ranges_of
from mobilenets_jax.hosts import broadcast_from_primary
from mobilenets_jax.identity import CLASS_NAMES, network_fields, task_of
from mobilenets_jax.models import create_model
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.weights.cards import Preprocessing

PyTree = Any

PARAMS = ('ema', 'raw')
# What `create_model` takes by other names, or not at all.
_NO_FIELDS_OF_THE_MODEL = ('model', 'normalization')


class Trained(NamedTuple):
    """A checkpoint of a run.

    Attributes:
        variables: 'params' and 'batch_stats', NumPy arrays.
        fields: of its network and the range of its input, as `identity.network_fields` has them.
        num_classes: width of its logits.
        class_names: in the order of the labels; None: an older version saved it, without them.
        config: of the run, nested.
        step: after how many updates it was saved.
        task: a key of `tasks.TASKS`.
        identity: what else was saved of its network, such as a task's head.
        ranges: that the activations of a network trained for 8 bit are rounded by, (least, largest value) by the name
            of the point; {} of all others. See `fake_quantization`.
    """

    variables: PyTree
    fields: dict[str, Any]
    num_classes: int
    class_names: tuple[str, ...] | None
    config: Mapping[str, Any]
    step: int
    task: str
    identity: Mapping[str, Any]
    ranges: Mapping[str, tuple[float, float]]


def is_folder(source: str, label: str) -> bool:
    """Whether there is a folder `source`, such as that of a run; the same on every process.

    Args:
        source: local, perhaps with ~, or gs://.
        label: what messages call it.

    Raises:
        UserError: a bucket does not say.
    """

    def ask() -> bool:
        try:
            return epath.Path(source).expanduser().is_dir()
        except Exception as error:  # each kind of bucket has its own
            cause = one_line(error)
            raise UserError(f'{label} cannot be read: {cause:.300}.') from error

    return broadcast_from_primary(ask)


def parse_step(text: str | None) -> int | str | None:
    """The step that a flag names: a number, 'best', or None where it is not given."""
    if text is None or text == BEST:
        return text
    check(text.isdecimal(), '--step', text, f'is neither a number nor {BEST!r}')
    return int(text)


def read_trained(source: str, label: str, *, step: int | str | None = None, params: str = 'ema') -> Trained:
    """Reads a checkpoint of a run.

    Args:
        source: as `find_checkpoints` takes it.
        label: what messages call it, e.g. "init_from='runs/digits'".
        step: which one; 'best': the one with the best metric; None: the newest intact one.
        params: 'ema': averaged parameters and statistics, each where the run has some, or 'raw'.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    check_choice('params', params, PARAMS)
    check(step in (None, BEST) or isinstance(step, int), 'step', step, f'is neither a number nor {BEST!r}')
    found = broadcast_from_primary(lambda: _checkpoints(source))
    restored = None
    if found is not None:
        directory, of_source = found
        with CheckpointManager(directory, identity=None, read_only=True) as checkpoints:
            restored = checkpoints.restore(None, step=of_source if step is None else step)
    if restored is None:
        raise UserError(f'{label} holds no checkpoint; it must be a workdir, or a file of weights.')
    for name in ('params', 'batch_stats'):
        if name not in restored.state:
            raise UserError(f'{label} has no {name!r}, so it is no checkpoint of a training run.')
    state, config, names = restored.state, restored.meta.get('config', {}), restored.identity.get(CLASS_NAMES)
    variables = variables_of(state, params)
    ranges = {name: tuple(map(float, ends)) for name, ends in ranges_of(variables['batch_stats']).items()}
    variables['batch_stats'] = float_statistics(variables['batch_stats'])
    fields = network_fields(config, restored.identity)
    num_classes = restored.identity['num_classes']
    task = task_of(restored.identity)
    return Trained(
        variables, fields, num_classes, names and tuple(names), config, restored.step, task, restored.identity, ranges
    )


def variables_of(state: Mapping[str, PyTree], params: str) -> dict[str, PyTree]:
    """The 'params' and 'batch_stats' of a saved state; `params` as of `read_trained`."""
    prefix = 'ema_' if params == 'ema' else ''
    return {name: state.get(f'{prefix}{name}', state.get(name, {})) for name in ('params', 'batch_stats')}


def _checkpoints(source: str) -> tuple[str, int | None] | None:
    """What `find_checkpoints` finds, JSON-able."""
    found = find_checkpoints(source)
    return found and (str(found[0]), found[1])


def create_network(trained: Trained) -> ImageClassifier:
    """The classifier of a checkpoint; see `network_of`."""
    return network_of(trained, create_model)


def network_of(trained: Trained, create: Callable[..., nn.Module], **more: Any) -> nn.Module:
    """The network of a checkpoint, with the dtype of its run; float32 for a float64 one where JAX has none.

    Args:
        trained: the checkpoint.
        create: makes it, e.g. `models.create_model`.
        **more: what it takes besides the fields of `identity.NETWORK_FIELDS`.
    """
    fields = {name: value for name, value in trained.fields.items() if name not in _NO_FIELDS_OF_THE_MODEL}
    fields = {name: value for name, value in fields.items() if value is not None}
    dtype = trained.config.get('model', {}).get('dtype', 'float32')
    if dtype == 'float64' and not jax.config.jax_enable_x64:
        dtype = 'float32'
    return create(trained.fields['model'], trained.num_classes, dtype=dtype, **fields, **more)


def preprocessing(trained: Trained) -> Preprocessing:
    """How the run's evaluation makes an input of an image.

    Sources in memory have images of the network's size. They are taken whole; others are resized by their short side.
    """
    image_size, data = trained.config['image_size'], trained.config.get('data', {})
    size_and_range = {'image_size': image_size, 'normalization': trained.fields['normalization']}
    if 'eval_crop' not in fields_of_source(data.get('name', '')):
        return Preprocessing(crop='resize_crop', crop_fraction=1.0, **size_and_range)
    options = ImageOptions(
        image_size, **{name: data[name] for name in ('eval_crop', 'crop_fraction', 'interpolation') if name in data}
    )
    return Preprocessing(
        crop=options.eval_crop,
        crop_fraction=options.crop_fraction,
        interpolation=options.interpolation,
        **size_and_range,
    )
