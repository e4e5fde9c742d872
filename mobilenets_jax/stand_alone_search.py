"""A search whose networks are trained one by one, from a config to the table found; see `search.stand_alone`."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView, write_bytes, write_json, write_text
from mobilenets_jax.config_use import check_used
from mobilenets_jax.continuation import newest_checkpoint
from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.models.found import canonical, to_text
from mobilenets_jax.models.scaling import scale
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.report.run import never_ending_the_run
from mobilenets_jax.report.stand_alone import draw_networks
from mobilenets_jax.search.controllers import AgingEvolution, Controller, RandomInBand, Reinforce
from mobilenets_jax.search.found import Found
from mobilenets_jax.search.latency import latency_model
from mobilenets_jax.search.netadapt import as_table
from mobilenets_jax.search.reward import get_reward
from mobilenets_jax.search.spaces import get_space
from mobilenets_jax.search.stand_alone import Child, Children, SearchState, StandAlone, found_of
from mobilenets_jax.search_workdir import (
    WHOLE_BATCHES,
    check_algorithm,
    check_config,
    check_no_network,
    check_no_teacher,
    check_no_training_run,
    check_trained_alone,
    say,
    warn_without_held_out,
)
from mobilenets_jax.tasks import get_task
from mobilenets_jax.tasks.network import network_arguments
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.task import headline_metric
from mobilenets_jax.training.watchdog import Watchdog

NAME = 'stand_alone'
# By `config.search.controller`, the fields that it alone has.
CONTROLLERS = {
    'evolution': ('population', 'tournament', 'mutation_rate'),
    'random': (),
    'reinforce': ('learning_rate', 'baseline_decay'),
}
# Of the section `model`, what of a convention decides which layers a network has; all else is the training's.
_RULES = ('divisor', 'padding', 'activation')


class StandAloneSearch:
    """A search, built from its config and checked before anything compiles.

    Args:
        config: of a training of classification with the section 'search', which says the networks in the place of
            `model.name`; its length is that of the training of each network.
        overrides: what the command line sets of it, by dotted path.
        workdir: of the search, which goes on from its newest checkpoint.
        stop: see `search.stand_alone.Children`.

    Attributes:
        experiment: that trains the network of the first options, as all others are trained.
        dataset: with the held-out images in the place of the evaluation set.
        search: proposes, trains and rewards.

    Raises:
        UserError: for any value that cannot be run, or a workdir that is of another run.
    """

    def __init__(
        self, config: ConfigView, overrides: Mapping[str, Any], workdir: epath.Path, stop: Callable[[int], bool]
    ):
        self._workdir, self._stop, search = workdir, stop, config.search
        _check_config(config, overrides)
        self._space = get_space(search.space).restricted(search.options)
        self._latency = latency_model(search.latency, search.latency_file)
        self._config = self._of_network(config, self._space.spec(np.zeros(len(self._space.choices), int)))
        dataset, percent = Experiment(self._config).dataset, search.held_out_percent
        self.dataset = dataset.holding_out(percent) if percent else dataset
        self.experiment = Experiment(self._config, dataset=self.dataset)
        self.experiment.device_step(self.experiment.task, over_devices=False)  # raises for what cannot be trained
        check_trained_alone(config.model.sync_bn, self.experiment.model.output_stride)
        self._arguments = network_arguments(self._config, self.dataset)
        self._kept = {name: config.checkpoint[name] for name in ('keep_last', 'keep_best')}
        size = search.latency_image_size
        # As it is trained, or with all strides at a size of its own.
        self._timed = (self._arguments['num_removed_strides'], config.image_size) if size is None else (0, size)
        self.search = self._create_search(overrides)
        for decisions in self._of_every_option():  # raises for what has no latency, or is no table
            self._milliseconds(decisions)
            canonical(to_text('found', as_table(self.network(decisions, 0))), 'a network of the space')
        check_used(self._config, overrides, config.to_dict())
        newest = newest_checkpoint(workdir / 'checkpoints')
        if newest:
            check_algorithm(newest, NAME)
            check_config(self._config, newest)

    def _of_network(self, config: ConfigView, spec: NetworkSpec) -> ConfigView:
        """The config of a training of one network."""
        return config.updated({'model.name': self._space.name, 'model.table': to_text(self._space.name, spec)})

    def _create_search(self, overrides: Mapping[str, Any]) -> StandAlone:
        search, options = self._config.search, self.experiment.options
        reward = get_reward(search.reward, search.target_ms, search.exponent)
        best_by = headline_metric(self.experiment.task)

        def score(sums: Mapping[str, np.ndarray]) -> float:
            return float(self.experiment.definition.to_metrics(self.dataset, sums, {})[best_by.name])

        children = Children(
            create=self._create_child,
            train_batches=functools.partial(self.dataset.train_batches, WHOLE_BATCHES),
            eval_batches=functools.partial(self.dataset.eval_batches, WHOLE_BATCHES),
            score=score,
            num_steps=options.total_steps,
            stop=self._ends,
            log_every=options.log_every,
            say=say,
        )
        return StandAlone(
            controller=self._create_controller(overrides),
            seed=self._config.seed,
            milliseconds=self._milliseconds,
            reward=reward,
            children=children,
            num_networks=search.num_networks,
            networks_per_update=search.networks_per_update,
            save=self._save,
            say=say,
        )

    def _create_controller(self, overrides: Mapping[str, Any]) -> Controller:
        search, latency = self._config.search, self._latencies
        check_choice('search.controller', search.controller, CONTROLLERS)
        fields = {name: {field: search[field] for field in owned} for name, owned in CONTROLLERS.items()}
        for name, owned in fields.items():
            for field, value in owned.items():
                of_other = name != search.controller and f'search.{field}' in overrides
                reason = f'has no effect with search.controller={search.controller!r}, only with {name!r}'
                check(not of_other, f'search.{field}', value, reason)
        if search.controller == 'reinforce':
            return Reinforce(self._space, **fields['reinforce'])
        if search.controller == 'evolution':
            return AgingEvolution(self._space, latency, search.target_ms, **fields['evolution'])
        return RandomInBand(self._space, latency, search.target_ms)

    def _create_child(self, decisions: np.ndarray) -> Child:
        spec = self._space.spec(decisions)
        experiment = Experiment(self._of_network(self._config, spec), dataset=self.dataset)
        step = experiment.device_step(experiment.task, over_devices=False)
        return Child(
            state=experiment.initial_state(),
            step=parallel.single_device_step(step, donate=True),
            evaluate=parallel.single_device_step(lambda *arguments: experiment.task.evaluate(*arguments)[0]),
        )

    def network(self, decisions: Sequence[int], num_removed_strides: int) -> NetworkSpec:
        """The table of decisions as the section `model` has it trained, but for the strides."""
        table = self._space.spec(decisions)
        rules = {name: self._arguments[name] for name in _RULES if name in self._arguments}
        convention = dataclasses.replace(table.convention, **rules)
        spec = scale(table, self._arguments['width_multiplier'], convention).remove_first_strides(num_removed_strides)
        return spec if convention.activation is None else spec.with_rectifier(convention.activation)

    def _milliseconds(self, decisions: Sequence[int]) -> float:
        num_removed_strides, size = self._timed
        return self._latency.milliseconds(self.network(decisions, num_removed_strides), size)

    def _latencies(self, decisions: np.ndarray) -> np.ndarray:
        return np.array([self._milliseconds(row) for row in decisions])

    def _of_every_option(self) -> Iterator[np.ndarray]:
        """Decisions that differ from the first options in one choice, so that each option is in one of them."""
        for number, count in enumerate(self._space.num_options):
            for option in range(count):
                decisions = np.zeros(len(self._space.choices), int)
                decisions[number] = option
                yield decisions

    def _ends(self, step: int) -> bool:
        self._watchdog.reset()
        return self._stop(step)

    def run(self) -> Found | None:
        """Searches until all networks are trained; None where it was stopped before."""
        folder, identity = self._workdir / 'checkpoints', self.experiment.identity
        self._watchdog = Watchdog(self.experiment.options.hang_timeout_seconds)
        with CheckpointManager(folder, identity=identity, **self._kept) as self._checkpoints, self._watchdog:
            state = self.search.first()
            restored = self._checkpoints.restore(_arrays(state))
            if restored:
                self.experiment.check_data(f'step {restored.step}', restored.meta.get('fingerprints'))
                rows = tuple(restored.meta['search']['rows'])
                state = SearchState(controller=restored.state['controller'], rows=rows)
                say(f'going on with network {state.step + 1} of {self.search.num_networks}')
                self._write(state)  # a kill may have come between the checkpoint and these files
            else:
                self._describe()
            last = self.search.run(state)
        return None if last is None else self.found(last)

    def found(self, state: SearchState) -> Found:
        """The network of the best reward until now."""
        best = found_of(state.rows)
        metrics = {name: best[name] for name in ('milliseconds', 'accuracy', 'reward')}
        spec = as_table(self.network(best['decisions'], 0))
        return Found(f'{self._space.name}_{best["milliseconds"]:.3f}ms', spec, {**metrics, 'networks': state.step})

    def _save(self, state: SearchState) -> None:
        """Writes a checkpoint, and what people look at."""
        self._watchdog.reset()
        meta = {**self.experiment.facts, 'search': {'algorithm': NAME, 'rows': list(state.rows)}}
        self._checkpoints.save(state.step, _arrays(state), meta=meta)
        self._checkpoints.wait()
        self._write(state)

    def _write(self, state: SearchState) -> None:
        """What was trained, as JSON and as a picture; and the best of it."""
        if jax.process_index() != 0:
            return
        facts = {'algorithm': NAME, 'device': self._latency.device, 'controller': self._config.search.controller}
        facts |= {'choices': [choice.name for choice in self._space.choices], 'networks': list(state.rows)}
        write_json(self._workdir / 'search.json', facts)
        if any(row['accuracy'] is not None for row in state.rows):
            write_text(self._workdir / 'found.json', self.found(state).json)
            target = self._config.search.target_ms
            picture = functools.partial(draw_networks, state.rows, target)
            never_ending_the_run('search.png', lambda: write_bytes(self._workdir / 'search.png', picture()))

    def _describe(self) -> None:
        search, dataset, options = self._config.search, self.dataset, self.experiment.options
        chosen_by = 'held-out training' if search.held_out_percent else 'evaluation'
        say(
            f'{search.num_networks} of {self._space.num_networks:.2g} networks of {self._space.name}, proposed by '
            f'{search.controller}, latency on {self._latency.device}\n'
            f'{dataset.name}: {dataset.num_train} training images, {dataset.num_eval} {chosen_by} images to choose by\n'
            f'{jax.device_count()} device(s), a network on each; {options.total_steps} steps of batch '
            f'{options.batch_size} for each network'
        )
        warn_without_held_out(search.held_out_percent)


def _arrays(state: SearchState) -> dict[str, Any]:
    """What of a state are arrays."""
    return {'controller': state.controller, 'trained': np.int32(state.step)}


def _check_config(config: ConfigView, overrides: Mapping[str, Any]) -> None:
    """Raises `UserError` for what no search of networks trained one by one can do."""
    algorithm = config.search.algorithm
    check(algorithm == NAME, 'search.algorithm', algorithm, f'is not {NAME!r}')
    check_no_training_run(config, 'a search of networks that are trained one by one: each has steps of its own')
    fits = get_task(config.task).measures is ClassificationTask
    check(fits, 'task', config.task, "cannot be searched for; 'classification' can")
    check_no_network(overrides)
    check_no_teacher(config.distillation.teacher)
    check(
        config.init_from == '', 'init_from', config.init_from, 'has no effect: these networks are trained from scratch'
    )


def search(
    config: ConfigView, overrides: Mapping[str, Any], workdir: epath.Path, stop: Callable[[int], bool]
) -> Found | None:
    """See `commands.search.Algorithm`."""
    return StandAloneSearch(config, overrides, workdir, stop).run()
