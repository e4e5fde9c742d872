"""Evaluates the sets of `evaluation_sets` on all local devices and prints the metrics as JSON. No test in here."""

import functools
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import jax  # noqa: E402
from evaluation_sets import SIZES, make_dataset, make_model, make_variables  # noqa: E402

from mobilenets_jax.data import Layout  # noqa: E402
from mobilenets_jax.evaluation.classification import ClassificationEvaluator  # noqa: E402
from mobilenets_jax.training import parallel  # noqa: E402
from mobilenets_jax.training.classification import ClassificationTask  # noqa: E402
from mobilenets_jax.training.step import make_eval_step  # noqa: E402


def main() -> None:
    """One evaluation step, compiled once, serves all sets."""
    model = make_model()
    task = ClassificationTask(model=model, preprocess=make_dataset(1).device_preprocess)
    eval_step = parallel.parallel_eval_step(make_eval_step(task))
    layout = Layout(process_index=0, process_count=1, local_device_count=jax.local_device_count())
    variables = parallel.replicate(make_variables(model))
    results = {}
    for size in SIZES:
        dataset = make_dataset(size)
        evaluator = ClassificationEvaluator(
            eval_step, functools.partial(dataset.eval_batches, layout), dataset.num_eval
        )
        results[size] = evaluator(variables['params'], variables['batch_stats'])
    print(json.dumps({'devices': jax.device_count(), 'results': results}))


if __name__ == '__main__':
    main()
