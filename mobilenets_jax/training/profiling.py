"""A trace of some steps of a run, by `jax.profiler`: the work of the devices and the host's threads over time."""

import os
import re
from collections.abc import Callable
from typing import Any

import jax

from mobilenets_jax.errors import UserError, check

FIELD = 'profile_steps'


def parse_steps(text: str, total_steps: int) -> tuple[int, int] | None:
    """The first and the last step of 'FIRST:LAST', counted from 1; None of ''.

    Raises:
        UserError: it has another form, or no such steps are in the run.
    """
    if not text:
        return None
    found = re.fullmatch(r'(\d+):(\d+)', text)
    if not found:
        raise UserError(f'{FIELD}={text!r} must be FIRST:LAST, such as 101:110.')
    first, last = map(int, found.groups())
    check(1 <= first <= last <= total_steps, FIELD, text, f'must be steps from 1 to {total_steps}, in order')
    return first, last


class ProfiledStep:
    """A training step that writes a trace of some of its calls; of the others it is the step itself.

    The first step of a process compiles; its trace shows little else. Every host writes its own files.

    Args:
        train_step: from a state and a batch to the next state and metrics.
        steps: the first and the last step that are traced, counted from 1; None: none is.
        folder: of the trace, for TensorBoard's profile plugin or xprof.
        start_step: how many steps the run has made.
    """

    def __init__(self, train_step: Callable, steps: tuple[int, int] | None, folder: str | os.PathLike, start_step: int):
        self._train_step = train_step
        self._first, self._last = steps or (0, 0)
        self._folder = os.fspath(folder)
        self._step = start_step
        self._tracing = False

    def __call__(self, state: Any, batch: Any) -> tuple[Any, Any]:
        """One step."""
        self._step += 1
        if self._first <= self._step <= self._last and not self._tracing:
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        if not self._tracing:
            return self._train_step(state, batch)
        with jax.profiler.StepTraceAnnotation('train', step_num=self._step):
            state, metrics = self._train_step(state, batch)
        if self._step == self._last:
            jax.block_until_ready(metrics)
            self.close()
        return state, metrics

    def close(self) -> None:
        """Ends a trace that was begun."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
