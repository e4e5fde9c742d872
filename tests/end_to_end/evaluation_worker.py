"""Evaluates the sets of `evaluation_sets` on all devices and prints the metrics as JSON. No test in here.

What the network makes of each example is printed, too. The arguments are those of a launcher by which several processes
find each other.
"""

import functools
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import jax  # noqa: E402
from evaluation_sets import SIZES, make_dataset, make_model, make_variables  # noqa: E402

from mobilenets_jax import cli  # noqa: E402
from mobilenets_jax.data import Layout  # noqa: E402
from mobilenets_jax.evaluation.classification import classification_metrics  # noqa: E402
from mobilenets_jax.evaluation.evaluator import Evaluator  # noqa: E402
from mobilenets_jax.training import parallel  # noqa: E402
from mobilenets_jax.training.classification import ClassificationTask  # noqa: E402
from mobilenets_jax.training.step import make_eval_step  # noqa: E402


def main() -> None:
    """One evaluation step, compiled once, serves all sets."""
    model = make_model()
    task = ClassificationTask(model=model, preprocess=make_dataset(1).device_preprocess)
    step = parallel.parallel_eval_step(make_eval_step(task))
    layout = Layout(jax.process_index(), jax.process_count(), jax.local_device_count())
    variables = parallel.replicate(make_variables(model))
    results = {}
    for size in SIZES:
        dataset = make_dataset(size)
        batches = functools.partial(dataset.eval_batches, layout, with_index=True)
        evaluator = Evaluator(step, batches, dataset.num_eval, classification_metrics)
        metrics, _, rows = evaluator(variables['params'], variables['batch_stats'])
        results[size] = metrics | {'rows': {name: values.tolist() for name, values in rows.items()}}
    print(json.dumps({'devices': jax.device_count(), 'results': results}))


if __name__ == '__main__':
    cli.run(main, sys.argv)
