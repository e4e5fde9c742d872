"""Which part of the package may import which: the layout of docs/architecture.md, held."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'mobilenets_jax'

# Leaves that every part may import.
LEAVES = {
    *('errors', 'buckets', 'hashes', 'trees', 'tables', 'config', 'hosts', 'allocator', 'machine', 'stop_signals'),
    'image_size',
    'renamed_fields',
}
ALLOWED = {
    'ops': set(),
    'models': {'ops'},
    'boxes': set(),
    'heads': {'models', 'ops', 'boxes'},
    'data': set(),
    'training': {'ops', 'boxes'},
    'checkpoints': set(),
    'evaluation': {'training', 'data'},
    'weights': {'models', 'ops', 'data', 'checkpoints', 'identity', 'inference', 'heads', 'fake_quantization'},
    'report': {'models', 'heads', 'ops', 'training', 'evaluation', 'data', 'search'},
    'export': {'models', 'ops', 'data', 'weights', 'inference', 'fake_quantization'},
    'search': {'models', 'training'},
    'tasks': {
        'models',
        'heads',
        'ops',
        'boxes',
        'data',
        'training',
        'evaluation',
        'weights',
        'report',
        'identity',
        'inference',
        'config_use',
    },
}
TENSORFLOW_FREE = ('models', 'heads', 'ops', 'training', 'checkpoints', 'evaluation', 'export', 'search')


def imported_modules(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return names


def parts(path: pathlib.Path) -> set[str]:
    """The parts of the package that a file imports."""
    modules = (name.split('.') for name in imported_modules(path))
    return {name[1] for name in modules if name[0] == 'mobilenets_jax' and len(name) > 1}


@pytest.mark.parametrize('part', sorted(ALLOWED))
def test_a_part_imports_only_what_it_may(part):
    for path in sorted((PACKAGE / part).rglob('*.py')):
        assert parts(path) <= ALLOWED[part] | LEAVES | {part}, path.relative_to(ROOT)


def test_leaves_import_no_part():
    for leaf in LEAVES:
        assert parts(PACKAGE / f'{leaf}.py') <= LEAVES


def test_tables_are_plain_python():
    for path in (PACKAGE / 'models').glob('spec*.py'):
        assert {name.split('.')[0] for name in imported_modules(path)} <= {
            'collections', 'dataclasses', 'fractions', 'math', 'typing', 'mobilenets_jax'
        }  # fmt: skip


def test_commands_alone_import_the_configs():
    for path in PACKAGE.rglob('*.py'):
        if path.parent.name != 'commands':
            assert not any(name.split('.')[0] == 'configs' for name in imported_modules(path)), path


def test_tensorflow_stays_out_of_the_parts_that_must_run_without_it():
    for part in TENSORFLOW_FREE:
        for path in (PACKAGE / part).rglob('*.py'):
            assert not any(name.split('.')[0].startswith('tensorflow') for name in imported_modules(path)), path


def test_pmap_is_named_in_one_file():
    named = [path for path in PACKAGE.rglob('*.py') if 'jax.pmap(' in path.read_text()]
    assert [path.relative_to(PACKAGE).as_posix() for path in named] == ['training/parallel.py']


def test_launchers_are_short():
    for name, limit in (('train.py', 150), ('evaluate.py', 130)):
        assert len((PACKAGE / 'commands' / name).read_text().splitlines()) < limit


def test_files_can_be_read_in_one_sitting():
    for path in PACKAGE.rglob('*.py'):
        assert len(path.read_text().splitlines()) <= 400, path.relative_to(ROOT)


def test_no_part_that_serves_all_tasks_names_a_metric_of_one():
    generic = ['training/loop.py', 'training/progress.py', 'training/step.py', 'training/task.py', 'experiment.py']
    generic += ['evaluation/evaluator.py', 'report/run.py', 'report/curves.py', 'report/evaluation.py']
    generic += ['report/model_card.py', 'tasks/prediction_table.py', 'weights/averaging.py']
    generic += [
        f'commands/{name}.py'
        for name in ('average', 'compare', 'compile', 'inspect', 'predict', 'sweep', 'train', 'evaluate')
    ]
    for path in (PACKAGE / name for name in generic):
        constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not {'top1', 'top5', 'accuracy', 'logits'} & constants, path


def test_only_the_registry_distinguishes_tasks():
    for path in PACKAGE.rglob('*.py'):
        if path.parent.name != 'tasks':
            assert not re.search(r'\btask\s*(==|!=|in)\s*[(\'"]', path.read_text()), path
