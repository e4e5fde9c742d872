"""Search with shared weights, from a config to the table that it finds; see `search.weight_sharing`.

The super-network is built, read and trained as any network from a table is (`experiment.Experiment`), by the loop that
trains all of them: the search has its checkpoints, its progress lines and its ways to stop and go on.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView, duration, write_bytes, write_json, write_text
from mobilenets_jax.config_use import check_used
from mobilenets_jax.continuation import newest_checkpoint
from mobilenets_jax.errors import check
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.models import create_model
from mobilenets_jax.models.found import canonical, to_text
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.report.run import never_ending_the_run
from mobilenets_jax.report.weight_sharing import draw_search
from mobilenets_jax.search.controllers import Reinforce
from mobilenets_jax.search.found import Found
from mobilenets_jax.search.held_out import HeldOut
from mobilenets_jax.search.latency import latency_model
from mobilenets_jax.search.reward import get_reward
from mobilenets_jax.search.space import Space
from mobilenets_jax.search.spaces import get_space
from mobilenets_jax.search.super_network import SuperNetwork
from mobilenets_jax.search.weight_sharing import Networks, SearchState, SharedWeightsTask, make_search_step
from mobilenets_jax.search_workdir import check_algorithm, check_config, check_no_network, check_no_teacher, say
from mobilenets_jax.tasks import get_task
from mobilenets_jax.tasks.network import network_arguments
from mobilenets_jax.training import loop, parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.progress import Progress, Timing, read_metrics

NAME = 'weight_sharing'
LEAST_HELD_OUT = 8  # images of a device's batch that its network is rewarded for, on average


class WeightSharingSearch:
    """A search, built from its config and checked before anything compiles.

    Args:
        config: of a training of classification, with the section 'search', which says the networks in the place of
            `model.name`.
        overrides: what the command line sets of it, by dotted path.

    Attributes:
        experiment: that trains the super-network.
        task: what is trained and measured.
        networks: what is drawn.

    Raises:
        UserError: for any value that cannot be run.
    """

    def __init__(self, config: ConfigView, overrides: Mapping[str, Any]):
        search = config.search
        _check_config(config, overrides)
        space = get_space(search.space).restricted(search.options)
        self._name = f'{space.name}_{search.target_ms:g}ms'  # of what is found
        table = to_text(space.name, SuperNetwork(space).table)
        self._config = config.updated({'model.name': space.name, 'model.table': table})
        self.experiment = Experiment(self._config)
        self._arguments = network_arguments(self._config, self.experiment.dataset)
        self._latency = latency_model(search.latency, search.latency_file)
        reward = get_reward(search.reward, search.target_ms, search.exponent)
        self.task = self._create_task(HeldOut(search.held_out_percent, config.seed))
        self.networks = self._create_networks(space)
        self._kept = {name: config.checkpoint[name] for name in ('keep_last', 'keep_best')}
        self._schedule = self.experiment.schedule
        search_step = make_search_step(
            self.experiment.device_step(self.task), self.networks.controller, reward, self.networks.warmup_steps
        )
        self._compiled = parallel.parallel_train_step(search_step)
        check_used(self._config, overrides, config.to_dict())

    def _create_task(self, held_out: HeldOut) -> SharedWeightsTask:
        experiment, task = self.experiment, self.experiment.task
        for field in ('mixup_alpha', 'cutmix_alpha'):
            alpha = self._config.data[field]
            check(not (task.mix and alpha), f'data.{field}', alpha, 'would mix images that are held out into others')
        factors = self._config.optimizer.rate_factors
        check(not task.frozen.params, 'optimizer.rate_factors', factors, 'must freeze nothing in a search')
        least = held_out.percent / 100 * experiment.batch_size / jax.device_count()
        requirement = f"leaves {least:.1f} images of a device's batch to reward a network by, {LEAST_HELD_OUT} at least"
        check(least >= LEAST_HELD_OUT, 'search.held_out_percent', held_out.percent, requirement)
        return SharedWeightsTask(task=task, held_out=held_out)

    def _create_networks(self, space: Space) -> Networks:
        search, options = self._config.search, self.experiment.options
        warmup_steps = duration(
            search,
            'warmup',
            batch_size=self.experiment.batch_size,
            examples_per_epoch=self.experiment.dataset.num_train,
            total_steps=options.total_steps,
            section='search',
        )
        fits = 0 <= (warmup_steps or 0) < options.total_steps
        check(fits, 'search.warmup', warmup_steps, f'steps leave none of the {options.total_steps} to the controller')
        num_removed_strides, size = self._arguments['num_removed_strides'], search.latency_image_size
        super_network = SuperNetwork(space, functools.partial(self._resolve, num_removed_strides))
        # As it is trained, or with all strides at a size of its own.
        timed = super_network if size is None else SuperNetwork(space, functools.partial(self._resolve, 0))

        def milliseconds(decisions: np.ndarray) -> float:
            return self._latency.milliseconds(timed.network(decisions), size or self._config.image_size)

        networks = Networks(
            super_network,
            Reinforce(space, learning_rate=search.learning_rate, baseline_decay=search.baseline_decay),
            milliseconds,
            warmup_steps or 0,
            self._config.seed,
        )
        self._check_latency(networks)
        canonical(to_text(self._name, self.table(networks.super_network, networks.super_network.largest)), self._name)
        return networks

    def _check_latency(self, networks: Networks) -> None:
        """Raises `UserError` for networks of the space without a latency, and a target that none of them has."""
        super_network, target = networks.super_network, self._config.search.target_ms
        for decisions in super_network.neighbours():
            networks.milliseconds(decisions)
        least, most = networks.range
        requirement = f'is no latency of {super_network.space.name}, whose networks take {least:.3g} to {most:.3g} ms'
        check(least <= target <= most, 'search.target_ms', target, requirement)

    def _resolve(self, num_removed_strides: int, spec: NetworkSpec) -> NetworkSpec:
        """A table of the space as the network that the section `model` makes of it."""
        table = {'name': self._name, 'table': to_text(self._name, spec), 'num_removed_strides': num_removed_strides}
        return create_model(**{**self._arguments, **table}).spec

    def table(self, super_network: SuperNetwork, decisions: np.ndarray) -> NetworkSpec:
        """The table of a network with its own widths and all of its strides."""
        table = super_network.space.spec(decisions)
        spec, network = self._resolve(0, table), super_network.network(decisions)
        rows = zip(spec.blocks, network.blocks, strict=True)
        blocks = tuple(dataclasses.replace(row, residual=other.residual) for row, other in rows)
        # Its widths are those of this divisor; all else of the convention is the training's.
        convention = dataclasses.replace(table.convention, divisor=spec.convention.divisor)
        return dataclasses.replace(spec, blocks=blocks, convention=convention)

    def initial_state(self) -> SearchState:
        """The state before the first step."""
        return SearchState(self.experiment.initial_state(), self.networks.controller.init())

    def abstract_state(self) -> SearchState:
        """Shapes and dtypes of the state."""
        policy = jax.eval_shape(self.networks.controller.init)
        return SearchState(self.experiment.abstract_state(), policy)

    def step(self) -> Callable:
        """One step on all devices, as `loop.train` takes it: draws the networks, then runs the compiled step."""
        networks, layout, compiled = self.networks, self.experiment.layout, self._compiled
        first = layout.process_index * layout.local_device_count

        def step(state: SearchState, batch: Any) -> tuple[SearchState, Any]:
            policy, number = parallel.to_host((state.policy, state.step))
            decisions = networks.decisions(policy, int(number), jax.device_count())
            own = decisions[first : first + layout.local_device_count]
            return compiled(state, {**batch, **networks.fields(own)})

        return step

    def run(self, workdir: epath.Path, stop: Callable[[int], bool]) -> Found | None:
        """Searches, from the newest checkpoint of the workdir on where there is one.

        Args:
            workdir: of the search.
            stop: see `loop.train`.

        Returns:
            The network that is the likeliest in the end; None where the search was stopped before, saved.

        Raises:
            UserError: the workdir is of another search.
            RunError: as of `loop.train`.
        """
        experiment, options = self.experiment, self.experiment.options
        found = newest_checkpoint(workdir / 'checkpoints')
        if found:
            check_algorithm(found, NAME)
            check_config(self._config, found)
        with CheckpointManager(workdir / 'checkpoints', identity=experiment.identity, **self._kept) as checkpoints:
            restored = checkpoints.restore(self.abstract_state())
            if restored:
                experiment.check_data(f'step {restored.step}', restored.meta.get('fingerprints'))
            say(f'going on from the checkpoint of step {restored.step}' if restored else self.describe())
            progress = Progress(
                workdir,
                measures=self.task,
                total_steps=options.total_steps,
                batch_size=options.batch_size,
                start_step=restored.step if restored else 0,
                timing=Timing.saved(restored.meta['timing']) if restored else None,
                after_evaluation=lambda *_: self._draw(workdir),
            )
            outcome = loop.train(
                restored.state if restored else self.initial_state(),
                self.step(),
                self.task,
                batches=lambda position: experiment.dataset.train_batches(experiment.layout, start=position),
                evaluate=lambda state: self.networks.measured(parallel.to_host(state.policy)),
                checkpoints=checkpoints,
                progress=progress,
                schedule=self._schedule,
                options=options,
                stop=stop,
                start_position=restored.meta['position'] if restored else 0,
                facts={**experiment.facts, 'search': {'algorithm': NAME}},
                profile_folder=workdir / 'profile',
            )
            progress.close()
        if jax.process_index() == 0:
            self._draw(workdir)
        if outcome.preempted:
            return None
        found, options = self.found(outcome.state, outcome.evaluation)
        if jax.process_index() == 0:
            write_text(workdir / 'found.json', found.json)
            facts = {'algorithm': NAME, 'device': self._latency.device, **found.metrics, 'decisions': options}
            write_json(workdir / 'search.json', facts)
        return found

    def _draw(self, workdir: epath.Path) -> None:
        """Writes the picture of what `metrics.jsonl` has."""

        def draw() -> None:
            rows, networks = read_metrics(workdir / 'metrics.jsonl'), self.networks
            picture = draw_search(rows, self.task, self._config.search.target_ms, networks.warmup_steps)
            write_bytes(workdir / 'search.png', picture)

        never_ending_the_run('search.png', draw)

    def found(self, state: SearchState, metrics: Mapping[str, float]) -> tuple[Found, dict[str, Any]]:
        """The likeliest network of a state, and the options that are in force in it, by the names of their choices."""
        networks = self.networks
        decisions, space = networks.controller.best(parallel.to_host(state.policy)), networks.super_network.space
        in_force = zip(space.options(decisions).items(), space.in_force(decisions), strict=True)
        options = {name: option for (name, option), used in in_force if used}
        return Found(self._name, self.table(networks.super_network, decisions), metrics), options

    def describe(self) -> str:
        """What the search is about to do, in a few lines."""
        networks, experiment, space = self.networks, self.experiment, self.networks.super_network.space
        least, most = networks.range
        dataset, options = experiment.dataset, experiment.options
        held_out = self.task.held_out.count(dataset.num_train)
        return (
            f'weight sharing over {space.name}: {space.num_networks:.2g} networks of {least:.3g} to {most:.3g} ms on '
            f'{self._latency.device}\n'
            f'{dataset.name}: {dataset.num_train} training images, {held_out} of them held out to reward networks by\n'
            f'{jax.device_count()} device(s), a network on each; {options.total_steps} steps of batch '
            f'{options.batch_size}; the controller learns from step {networks.warmup_steps} on'
        )


def _check_config(config: ConfigView, overrides: Mapping[str, Any]) -> None:
    """Raises `UserError` for what no search with shared weights can do."""
    algorithm = config.search.algorithm
    check(algorithm == NAME, 'search.algorithm', algorithm, f'is not {NAME!r}')
    fits = get_task(config.task).measures is ClassificationTask
    check(fits, 'task', config.task, 'has no search with shared weights: these are rewarded for classifying images')
    check_no_network(overrides)
    for field in ('dropout_rate', 'drop_path_rate'):
        rate = config.model[field]
        check(rate == 0, f'model.{field}', rate, 'must be 0 in a search, whose rewards it would change')
    sync_bn = config.model.sync_bn
    check(not sync_bn, 'model.sync_bn', sync_bn, 'cannot be in a search, in which each device has its own network')
    check_no_teacher(config.distillation.teacher)
    check(config.init_from == '', 'init_from', config.init_from, 'has no effect in a search with shared weights')
    steps = config.optimizer.accumulation_steps
    check(steps == 1, 'optimizer.accumulation_steps', steps, 'must be 1 in a search with shared weights')


def search(
    config: ConfigView, overrides: Mapping[str, Any], workdir: epath.Path, stop: Callable[[int], bool]
) -> Found | None:
    """The network that a search ends with; see `WeightSharingSearch`."""
    return WeightSharingSearch(config, overrides).run(workdir, stop)
