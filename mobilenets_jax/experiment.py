"""From a config to the parts of a run: data, model, optimizer, steps, evaluator, each checked before anything compiles.

The top of the package: it imports all of its parts, and none of them imports it. train.py and eval.py use it.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.config import ConfigView, duration, spellings
from mobilenets_jax.config_use import fields_in_use
from mobilenets_jax.data import Dataset, Layout, create_dataset, fingerprint
from mobilenets_jax.data.options import quantized_input_range
from mobilenets_jax.errors import check, needed
from mobilenets_jax.evaluation.evaluator import Evaluation, Evaluator
from mobilenets_jax.fake_quantization import QUANTIZATION, FakeQuantized, Phases, float_statistics
from mobilenets_jax.hosts import check_agreement
from mobilenets_jax.identity import Identity, check_classes, network_fields
from mobilenets_jax.tasks import get_task
from mobilenets_jax.training import parallel
from mobilenets_jax.training.distillation import Teacher
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.frozen import NOTHING, Frozen
from mobilenets_jax.training.loop import LoopOptions
from mobilenets_jax.training.optimizers import WeightDecayOptions, create_optimizer
from mobilenets_jax.training.profiling import parse_steps
from mobilenets_jax.training.rate_factors import check_rate_factors
from mobilenets_jax.training.schedules import create_schedule
from mobilenets_jax.training.state import TrainState, create_state, first_state, init_variables, make_init
from mobilenets_jax.training.step import make_eval_step, make_train_step
from mobilenets_jax.training.task import Task
from mobilenets_jax.weights.folding import unfold_batch_norms
from mobilenets_jax.weights.init_from import StartingPoint, fit, fresh_variables

# The number of images for the statistics of a network with folded batch norms, and the first ranges of a quantized one.
STATISTICS_IMAGES = 64


def dataset_of(config: ConfigView, batch_size: int, *, shapes_only: bool = False) -> Dataset:
    """The data set of a config, in batches of `batch_size`; see `create_dataset`."""
    fields = fields_in_use(config, 'data')
    fields.pop('accept_changes', None)  # only for a resumed run
    return create_dataset(
        directory=fields.pop('dir', ''),
        image_size=config.image_size,
        batch_size=batch_size,
        seed=config.seed,
        task=get_task(config.task).examples,
        shapes_only=shapes_only,
        **fields,
    )


class Experiment:
    """The parts of a run, built from its config.

    Args:
        config: all fields of `configs/base.py`.
        start: the variables that a new run starts from; None draws them.
        compiled_for: devices, present or not, for which the training step is only compiled, if possible without data;
            None: the step runs on all present devices.
        dataset: what is trained on in the place of the config's, which another experiment has read; None reads it.

    Attributes:
        batch_size: global.
        definition: of the task that the config names, see `mobilenets_jax.tasks`.
        dataset: see `mobilenets_jax.data`.
        model: the network.
        task: what is trained, and how it is measured.
        identity: properties that a checkpoint must share with this run.
        options: length and intervals of the run; raises `UserError` when read if the config sets no length.
        schedule: step to learning rate.
        weight_decay: which parameters decay, and how.
        frozen: which parts do not learn.

    Raises:
        UserError: for any value that cannot be run.
    """

    def __init__(
        self,
        config: ConfigView,
        start: StartingPoint | None = None,
        *,
        compiled_for: Sequence[jax.Device] | None = None,
        dataset: Dataset | None = None,
    ):
        self._config = config
        self._compiled_for = compiled_for
        self._num_devices = len(compiled_for or jax.devices())
        self._start = start
        self._init_from, self._new_head = config.init_from, config.new_head
        self._accept_changes = config.data.accept_changes
        self.definition = get_task(config.task)
        self.batch_size = config.batch_size
        devices = self._num_devices
        check(self.batch_size > 0, 'batch_size', self.batch_size, 'must be positive')
        check(self.batch_size % devices == 0, 'batch_size', self.batch_size, f'must be divisible by {devices} devices')
        self.dataset = dataset or self._read_data()
        named = not config.new_head and not self.dataset.numbered_classes
        if start is not None and start.class_names != () and start.task == config.task and named:
            source, (names, data) = f'init_from={config.init_from!r}', self._classes
            check_classes(source, start.class_names, names, data, exact=False)
        self.model = self.definition.create_model(config, self.dataset)
        self.task = self.definition.create_task(config, self.dataset, self._network, self.frozen)
        self._ema = EmaOptions(**fields_in_use(config, 'ema'))
        self.weight_decay = WeightDecayOptions(**fields_in_use(config, 'weight_decay'))

    def _read_data(self) -> Dataset:
        """The data of the config; raises `UserError` if the hosts have read different ones."""
        dataset = dataset_of(self._config, batch_size=self.batch_size, shapes_only=self._compiled_for is not None)
        facts = {name: getattr(dataset, name) for name in ('num_train', 'num_eval', 'num_classes')}
        facts['hash of the class names'] = zlib.crc32('\0'.join(dataset.class_names).encode('utf-8', 'surrogateescape'))
        for split, found in dataset.fingerprints.items():
            facts[f'order of the {split} examples'] = fingerprint.summary(found)
        check_agreement({f'{dataset.name} {name}': fact for name, fact in facts.items()})
        return dataset

    @functools.cached_property
    def quantized(self) -> FakeQuantized | None:
        """The network as it is trained and evaluated in 8 bit, if the config enables it."""
        fields = fields_in_use(self._config, 'quantization') if 'quantization' in self._config else {}
        if not fields.get('enabled'):
            return None
        momentum = fields['range_momentum']
        check(0.0 <= momentum < 1.0, 'quantization.range_momentum', momentum, 'must be in [0, 1)')
        return FakeQuantized(
            model=self.model,
            input_range=quantized_input_range(self._config.data.normalization),
            range_momentum=momentum,
            phases=functools.partial(self._phases, fields),
            axis_name=parallel.AXIS_NAME,
        )

    def _phases(self, fields: Mapping[str, Any]) -> Phases:
        """When the network is quantized, in parts of a batch as accumulation makes them."""
        total_steps = self.options.total_steps
        delay, freeze = (self._duration(fields, name, total_steps, 'quantization') for name in ('delay', 'freeze'))
        parts = self._config.optimizer.accumulation_steps
        return Phases(parts * (delay or 0), None if freeze is None else parts * freeze)

    @property
    def _network(self) -> nn.Module | FakeQuantized:
        """What is trained and evaluated."""
        return self.quantized or self.model

    @functools.cached_property
    def layout(self) -> Layout:
        """Which process and device reads which rows of a global batch."""
        return Layout(jax.process_index(), jax.process_count(), jax.local_device_count())

    @functools.cached_property
    def identity(self) -> Identity:
        """The properties that a checkpoint must share with this run."""
        names, data = self._classes
        fields = {**network_fields(self._config), 'num_classes': self.model.num_classes}
        fields |= self.definition.identity_fields(self.model)
        fields |= {} if self.quantized is None else {'quantization': QUANTIZATION}
        numbered = self.dataset.numbered_classes
        return Identity(fields=fields, class_names=names, data=data, task=self._config.task, numbered_classes=numbered)

    @functools.cached_property
    def teacher(self) -> Teacher | None:
        """The trained network that this one also learns from, which training alone reads; None: there is none."""
        return self.definition.create_teacher(self._config, self.dataset, self.model)

    @property
    def facts(self) -> dict[str, Any]:
        """What is saved with every checkpoint of a run for those who go on from it."""
        facts = {'config': self._config.to_dict(), 'fingerprints': self.dataset.fingerprints}
        return facts if self.teacher is None else {**facts, 'teacher': self.teacher.facts}

    def check_facts(self, checkpoint: str, stored: Mapping[str, Any]) -> None:
        """Raises `UserError` if a run cannot go on with its data or its teacher.

        Args:
            checkpoint: what messages call the one that it goes on from.
            stored: what was saved with it.
        """
        self.check_data(checkpoint, stored.get('fingerprints'))
        if self.teacher is not None:
            self.teacher.check(checkpoint, stored.get('teacher', {}))

    def check_data(self, checkpoint: str, stored: Mapping[str, fingerprint.Fingerprint] | None) -> None:
        """Raises `UserError` if a run cannot be resumed with its data; see `data.fingerprint`."""
        found = self.dataset.fingerprints
        fingerprint.check_training_data(checkpoint, stored, found, accept=self._accept_changes)
        fingerprint.warn_of_other_evaluation_data(checkpoint, stored, found)

    @property
    def _classes(self) -> tuple[Sequence[str], str]:
        """The names of the classes, and their origin for messages."""
        data = self._config.data
        return self.dataset.class_names, f'data.dir={data.dir!r}' if data.dir else f'data.name={data.name!r}'

    @functools.cached_property
    def options(self) -> LoopOptions:
        """Length and intervals of the run, in steps."""
        config = self._config
        check(self.dataset.num_train > 0, 'data.name', self.dataset.name, 'has no training split')
        total_steps = self._duration(config, 'num')
        check(bool(total_steps), 'num_steps', total_steps, 'must be set to a positive length, or num_epochs')
        every = {
            name: self._duration(config[name], 'every', total_steps, section=name) or total_steps
            for name in ('log', 'evaluation', 'checkpoint', 'replica_check')
        }
        project = config.log.wandb_project
        if project:
            check('search' not in config, 'log.wandb_project', project, 'is not offered for a search')
            needed('wandb')
        hang_timeout = config.hang_timeout_seconds
        check(hang_timeout > 0, 'hang_timeout_seconds', hang_timeout, 'must be positive')
        return LoopOptions(
            total_steps=total_steps,
            batch_size=self.batch_size,
            log_every=every['log'],
            eval_every=every['evaluation'],
            checkpoint_every=every['checkpoint'],
            replica_check_every=every['replica_check'],
            hang_timeout_seconds=hang_timeout,
            profile_steps=parse_steps(config.profile_steps, total_steps),
            wandb_project=project,
        )

    @functools.cached_property
    def schedule(self) -> Callable:
        """Step to learning rate."""
        total_steps = self.options.total_steps
        fields = fields_in_use(self._config, 'schedule')
        for name in ('warmup', 'decay'):
            spelled = {field: fields.pop(field) for field in spellings(name) if field in fields}
            if spelled:
                fields[f'{name}_steps'] = self._duration(spelled, name, total_steps, section='schedule')
        fields['warmup_steps'] = fields['warmup_steps'] or 0
        reference = fields.pop('learning_rate_batch_size')
        check(reference is None or reference > 0, 'schedule.learning_rate_batch_size', reference, 'must be positive')
        fields['learning_rate'] *= self.batch_size / reference if reference else 1.0
        return create_schedule(total_steps=total_steps, **fields)

    @functools.cached_property
    def _optimizer(self):
        fields = fields_in_use(self._config, 'optimizer')
        accumulation_steps = fields.pop('accumulation_steps')
        per_device = self.batch_size // self._num_devices
        check(
            accumulation_steps >= 1 and per_device % accumulation_steps == 0,
            'optimizer.accumulation_steps',
            accumulation_steps,
            f'must divide the {per_device} examples of a device',
        )
        return create_optimizer(schedule=self.schedule, weight_decay=self.weight_decay, **fields)

    @functools.cached_property
    def frozen(self) -> Frozen:
        """What does not learn."""
        rate_factors = self._config.optimizer.rate_factors
        check_rate_factors(rate_factors)
        if all(factor for _, factor in rate_factors):
            return NOTHING
        return Frozen.by_rate_factors(rate_factors, self.abstract_variables()['params'])

    @property
    def _image_size(self) -> tuple[int, int]:
        """Height and width of the training images."""
        return self.dataset.train_signature['image'].shape[:2]

    @functools.cached_property
    def _init(self) -> Callable[[jax.Array], TrainState]:
        return make_init(self._network, self._optimizer, image_size=self._image_size, ema=self._ema)

    def initial_state(self) -> TrainState:
        """The state before the first step."""
        state = create_state(self._init, self._config.seed)
        if self._start is None and self.quantized is None:
            return state
        variables = {'params': state.params, 'batch_stats': float_statistics(state.batch_stats)}
        if self._start is not None:
            variables = self._fitted(variables)
        params, batch_stats = variables['params'], variables['batch_stats']
        if self.quantized is not None:
            batch_stats = self.quantized.calibrated(variables, self._first_images())
            batch_stats = jax.tree.map(lambda leaf, own: leaf.astype(own.dtype), batch_stats, state.batch_stats)
        # The averages must be separate arrays: the step donates all of them.
        return state.replace(
            params=params,
            batch_stats=batch_stats,
            ema_params=None if state.ema_params is None else jax.tree.map(np.array, params),
            ema_batch_stats=None if state.ema_batch_stats is None else jax.tree.map(np.array, batch_stats),
        )

    def _fitted(self, fresh: Mapping[str, Any]) -> dict[str, Any]:
        """The variables that the run starts from, in the structure of the fresh ones of its network."""
        source, head = f'init_from={self._init_from!r}', self.definition.head
        variables = fit(self._start.variables, fresh, source, head=head, new_head=self._new_head)
        if self._start.folded:
            new = {'is_fresh': fresh_variables(self._start.variables, fresh, head)} if self._new_head else {}
            variables = unfold_batch_norms(self.model, variables, self._first_images(), **new)
        return variables

    def _first_images(self) -> jax.Array:
        """Some normalised images of the first training batch, [n, H, W, 3], the same on every process."""
        alone = Layout(process_index=0, process_count=1, local_device_count=1)
        batch = next(self.dataset.train_batches(alone))
        batch = {name: leaf[0, :STATISTICS_IMAGES] for name, leaf in batch.items()}
        return self.dataset.device_preprocess(batch, train=True)

    def abstract_state(self) -> TrainState:
        """Shapes and dtypes of the state, without computing it."""
        return jax.eval_shape(self._init, _abstract_key())

    def abstract_variables(self) -> dict[str, Any]:
        """What evaluation reads of a checkpoint: shapes and dtypes of raw and averaged parameters and statistics."""
        init = functools.partial(init_variables, self._network, image_size=self._image_size)
        params, batch_stats = jax.eval_shape(init, _abstract_key())
        return {'params': params, 'batch_stats': batch_stats, 'ema_params': params, 'ema_batch_stats': batch_stats}

    def train_step(self) -> Callable:
        """The training step, mapped over all devices; raises `UserError` for float16, which it would not train."""
        step, teacher = self.device_step(self.task), self.teacher
        if teacher is None:
            return parallel.parallel_train_step(step, self._compiled_for)

        def taught_step(state: TrainState, batch: Any, variables: Any) -> tuple[TrainState, Any]:
            task = self.task.taught_by(dataclasses.replace(teacher, variables=variables))
            return self.device_step(task)(state, batch)

        return parallel.parallel_train_step(taught_step, self._compiled_for, constants=teacher.variables)

    def candidate_step(self) -> Callable:
        """The training step of stacked states, one on each device; raises as `train_step` does."""
        return parallel.parallel_candidates(self.device_step(self.task, over_devices=False), donate=True)

    def candidate_state(self, params: Any, batch_stats: Any) -> TrainState:
        """The state before the first step of a candidate with these variables."""
        return first_state(params, batch_stats, self._optimizer, self._ema)

    def device_step(self, task: Task, *, over_devices: bool = True) -> Callable:
        """The training step of one device, for this task or one made from it; raises as `train_step` does.

        Args:
            task: see `make_train_step`.
            over_devices: see `make_train_step`, too.
        """
        dtype, reason = self._config.model.dtype, 'gradients below 6e-8 vanish in it, as the loss is not scaled'
        check(dtype != 'float16', 'model.dtype', dtype, f"cannot be trained: {reason}. Take 'bfloat16'")
        if self.quantized is not None:
            self.quantized.phases()  # raises now if a length is wrong
        return make_train_step(
            task,
            self._optimizer,
            ema=self._ema,
            weight_decay=self.weight_decay,
            seed=self._config.seed,
            accumulation_steps=self._config.optimizer.accumulation_steps,
            frozen=self.frozen,
            over_devices=over_devices,
        )

    def evaluator(self) -> Evaluator:
        """Measures parameters on the evaluation set."""
        return Evaluator(
            parallel.parallel_eval_step(make_eval_step(self.task)),
            functools.partial(self.dataset.eval_batches, self.layout, with_index=True),
            self.dataset.num_eval,
            functools.partial(self.definition.to_metrics, self.dataset),
        )

    def write_report(self, folder: str, evaluation: Evaluation) -> None:
        """Writes the predictions on the evaluation set; raises `UserError` if they cannot be written."""
        self.definition.write_report(folder, evaluation, self.dataset, self.model)

    def _duration(
        self, values: Mapping[str, Any], name: str, total_steps: int | None = None, section: str = ''
    ) -> int | None:
        return duration(
            values,
            name,
            batch_size=self.batch_size,
            examples_per_epoch=self.dataset.num_train,
            total_steps=total_steps,
            section=section,
        )


def _abstract_key() -> jax.ShapeDtypeStruct:
    """Shape and dtype of a random key, without compiling what makes one."""
    return jax.eval_shape(jax.random.key, 0)
