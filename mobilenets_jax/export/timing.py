"""How long LiteRT takes for one image of several networks, measured side by side."""

import time
from collections.abc import Sequence

import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.export.litert import Scale, delegate_count, interpreter

WARM_UP = 10  # runs of each network before any is timed


class TimedNetwork:
    """A TFLite file that is ready to run on an input of its own: random numbers, the same in every process.

    Args:
        content: of the file.
        label: what messages call it.
        threads: that run it.

    Attributes:
        delegates: how many parts of the graph delegates run; 1 where the whole graph runs in one.
        image_size: height and width of its input, in pixels.

    Raises:
        UserError: LiteRT cannot run the file, or it does not take one image of a fixed size and a known type.
    """

    def __init__(self, content: bytes, label: str, threads: int):
        self._interpreter = interpreter(content, label, threads)
        inputs = self._interpreter.get_input_details()
        shapes = [[int(side) for side in details.get('shape_signature', details['shape'])] for details in inputs]
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] not in (1, -1) or min(shapes[0][1:]) < 1:
            raise UserError(f'{label} takes {shapes}, where one image [1, H, W, 3] of a fixed size is asked for.')
        numbers = np.random.default_rng(0).uniform(-1, 1, inputs[0]['shape'])
        stored = Scale.of(inputs[0], f'the input of {label}').store(numbers)
        self._interpreter.set_tensor(inputs[0]['index'], stored)
        self.image_size = tuple(shapes[0][1:3])
        self.delegates = delegate_count(self._interpreter)

    def milliseconds(self) -> float:
        """What a run takes just after another one, which brings the weights of this network into the cache."""
        self._interpreter.invoke()
        started = time.perf_counter()
        self._interpreter.invoke()
        return 1000 * (time.perf_counter() - started)


def measure(networks: Sequence[TimedNetwork], runs: int) -> np.ndarray:
    """Times one network after another, run by run, so that what else the machine does falls on all of them alike.

    Args:
        networks: to be timed.
        runs: of each, after the warm-up.

    Returns:
        Milliseconds, float64 [networks, runs].
    """
    for network in networks:
        for _ in range(WARM_UP):
            network.milliseconds()
    turns = [[network.milliseconds() for network in networks] for _ in range(runs)]
    return np.array(turns).T
