"""NetAdapt from a config to the table that it finds; see `search.adaptation`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView, write_bytes, write_json, write_text
from mobilenets_jax.config_use import check_used
from mobilenets_jax.continuation import OF_THE_START, network_of_saved, newest_checkpoint
from mobilenets_jax.errors import check
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.models import get_spec
from mobilenets_jax.models.found import canonical, to_text
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.report.adaptation import draw_candidates
from mobilenets_jax.search.adaptation import Adaptation, SearchState, abstract_arrays
from mobilenets_jax.search.channels import Channels, Kept
from mobilenets_jax.search.found import Found
from mobilenets_jax.search.latency import latency_model
from mobilenets_jax.search.netadapt import as_table, with_strides
from mobilenets_jax.search.population import Population, Variables
from mobilenets_jax.search_workdir import (
    MAY_DIFFER,
    WHOLE_BATCHES,
    check_algorithm,
    check_config,
    check_no_teacher,
    check_no_training_run,
    check_trained_alone,
    say,
    warn_without_held_out,
)
from mobilenets_jax.tasks import get_task
from mobilenets_jax.tasks.network import network_arguments
from mobilenets_jax.training.task import headline_metric
from mobilenets_jax.training.watchdog import Watchdog
from mobilenets_jax.weights.init_from import starting_point

NAME = 'netadapt'
# Those that a search reads when it starts, and a target to go on to.
_MAY_DIFFER = (*MAY_DIFFER, *OF_THE_START, 'search.target_ms')
# What of `network_arguments` says nothing about the table.
_NOT_OF_THE_TABLE = (
    *('num_classes', 'bn_axis_name', 'num_removed_strides', 'output_stride', 'dropout_rate', 'drop_path_rate', 'dtype'),
)


class NetAdaptSearch:
    """A search, built from its config and checked before anything compiles.

    Args:
        config: of a training of classification with the section 'search'; `init_from` has the network to start from,
            and `num_steps` is how long each candidate is trained.
        overrides: what the command line sets of it, by dotted path.
        workdir: of the search, which goes on from its newest checkpoint.
        stop: see `Population`.

    Raises:
        UserError: for any value that cannot be run, or a workdir that is of another run.
    """

    def __init__(
        self, config: ConfigView, overrides: Mapping[str, Any], workdir: epath.Path, stop: Callable[[int], bool]
    ):
        self._workdir, self._stop = workdir, stop
        check_no_training_run(config, 'NetAdapt: each candidate has steps of its own')
        self._found = newest_checkpoint(workdir / 'checkpoints')
        start = None
        if self._found is None:
            check(config.init_from != '', 'init_from', config.init_from, 'must name the trained network to start from')
            head = get_task(config.task).head
            start = starting_point(config.init_from, overrides, head=head, new_head=config.new_head)
            config = config.updated(start.fields)
        else:
            check_algorithm(self._found, NAME)
            config = config.updated(network_of_saved(self._found.meta['config'], overrides))
        self._config = config
        self.experiment = Experiment(config, start)
        self._check_network()
        percent = config.search.held_out_percent
        dataset = self.experiment.dataset
        self.dataset = dataset.holding_out(percent) if percent else dataset
        self._table = self._published_table()
        self.channels = Channels(self.experiment.model.spec)
        self._latency = latency_model(config.search.latency, config.search.latency_file)
        self._kept = {name: config.checkpoint[name] for name in ('keep_last', 'keep_best')}
        self.adaptation = Adaptation(
            channels=self.channels,
            milliseconds=self._milliseconds,
            population=self._population(),
            target=config.search.target_ms,
            saved_percent=config.search.saved_percent,
            save=self._save,
            say=say,
        )
        canonical(to_text('start', self._spec(self.channels.all_kept)), 'the network that the search starts from')
        check_used(config, overrides, config.to_dict())
        if self._found is not None:
            check_config(config, self._found, _MAY_DIFFER)

    def _check_network(self) -> None:
        model, config = self.experiment.model, self._config
        check(isinstance(model, ImageClassifier), 'task', config.task, "cannot be searched for; 'classification' can")
        check_no_teacher(config.distillation.teacher)
        check_trained_alone(config.model.sync_bn, model.output_stride)

    def _published_table(self) -> NetworkSpec:
        """The network with all of its strides, those that training drops included."""
        fields = network_arguments(self._config, self.dataset)
        return get_spec(**{name: value for name, value in fields.items() if name not in _NOT_OF_THE_TABLE})

    def _population(self) -> Population:
        experiment, dataset = self.experiment, self.dataset
        best_by = headline_metric(experiment.task)

        def score(sums: Mapping[str, np.ndarray]) -> float:
            return best_by.score(float(experiment.definition.to_metrics(dataset, sums, {})[best_by.name]))

        return Population(
            task=experiment.task,
            train_step=experiment.candidate_step(),
            first_state=experiment.candidate_state,
            train_batches=lambda position: dataset.train_batches(WHOLE_BATCHES, start=position),
            eval_batches=functools.partial(dataset.eval_batches, WHOLE_BATCHES),
            score=score,
            num_steps=experiment.options.total_steps,
            batch_size=experiment.batch_size,
            stop=self._ends,
            log_every=experiment.options.log_every,
            say=say,
        )

    def _milliseconds(self, spec: NetworkSpec) -> float:
        """The latency of a network: as it is trained, or with all strides at a size of its own."""
        size = self._config.search.latency_image_size
        if size is None:
            return self._latency.milliseconds(spec, self._config.image_size)
        return self._latency.milliseconds(with_strides(spec, self._table), size)

    def _ends(self, step: int) -> bool:
        self._watchdog.reset()
        return self._stop(step)

    def run(self) -> Found | None:
        """Searches until the target is reached; None where it was stopped before."""
        variables = self.experiment.abstract_variables()
        target = abstract_arrays(self.channels, variables['params'], variables['batch_stats'])
        folder, identity = self._workdir / 'checkpoints', self.experiment.identity
        self._watchdog = Watchdog(self.experiment.options.hang_timeout_seconds)
        with CheckpointManager(folder, identity=identity, **self._kept) as self._checkpoints, self._watchdog:
            restored = self._checkpoints.restore(target)
            if restored:
                self.experiment.check_data(f'step {restored.step}', restored.meta.get('fingerprints'))
                state = SearchState.restored(restored.state, restored.meta['search']['state'])
                say(f'going on from round {len(state.rounds) + 1}, {len(state.tried)} of its candidates tried')
                self._write(state)  # a kill may have come between the checkpoint and these files
            else:
                self._describe()
                trained = self.experiment.initial_state()
                state = self.adaptation.first(Variables(*jax.device_get((trained.params, trained.batch_stats))))
                self._save(state)
            say(f'{state.milliseconds:.3f} ms, {state.score:.2f}')
            last = self.adaptation.run(state)
        return None if last is None else self.found(last)

    def found(self, state: SearchState) -> Found:
        """The network of a state."""
        name = f'{self.experiment.identity.model}_{state.milliseconds:.3f}ms'
        metrics = {'milliseconds': state.milliseconds, 'score': state.score, 'rounds': len(state.rounds)}
        return Found(name, self._spec(state.network.kept), metrics)

    def _spec(self, kept: Kept) -> NetworkSpec:
        """The network of some channels with all strides."""
        return as_table(with_strides(self.adaptation.spec(kept), self._table))

    def _save(self, state: SearchState) -> None:
        """Writes a checkpoint, and what people look at."""
        self._watchdog.reset()
        meta = {**self.experiment.facts, 'search': {'algorithm': NAME, 'state': state.facts}}
        self._checkpoints.save(state.step, state.arrays, meta=meta)
        self._checkpoints.wait()
        self._write(state)

    def _write(self, state: SearchState) -> None:
        """What was tried, as JSON; and after each round its network and a picture."""
        if jax.process_index() != 0:
            return
        write_json(self._workdir / 'search.json', {'device': self._latency.device, **state.facts})
        if not state.tried:
            write_text(self._workdir / 'found.json', self.found(state).json)
            picture = draw_candidates(state.start, state.rounds, headline_metric(self.experiment.task))
            write_bytes(self._workdir / 'search.png', picture)

    def _describe(self) -> None:
        experiment, dataset, config = self.experiment, self.dataset, self._config
        chosen_by = 'held-out training' if config.search.held_out_percent else 'evaluation'
        say(
            f'NetAdapt from {experiment.identity.model}: {len(self.channels.blocks)} blocks, latency on '
            f'{self._latency.device}\n'
            f'{dataset.name}: {dataset.num_train} training images, {dataset.num_eval} {chosen_by} images to choose by\n'
            f'{jax.device_count()} device(s), a candidate on each; {experiment.options.total_steps} steps of batch '
            f'{experiment.batch_size} for each candidate'
        )
        warn_without_held_out(config.search.held_out_percent)


def search(config: ConfigView, overrides: Mapping[str, Any], workdir: epath.Path, stop: Callable[[int], bool]):
    """See `commands.search.Algorithm`."""
    return NetAdaptSearch(config, overrides, workdir, stop).run()
