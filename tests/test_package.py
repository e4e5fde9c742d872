"""What `import mobilenets_jax` offers, what it costs, and how quiet the commands are."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mobilenets_jax
from mobilenets_jax.errors import EXTRAS, describe

ROOT = Path(__file__).parents[1]
OFFERED = ['__version__', 'create_model', 'freeze', 'list_models', 'load_pretrained']


def run(*arguments, **environment):
    settings = {name: value for name, value in os.environ.items() if not name.startswith('TF_')}
    settings |= {'JAX_PLATFORMS': 'cpu', **environment}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=settings, capture_output=True, text=True)


def test_import_alone_imports_neither_jax_nor_tensorflow():
    code = (
        'import sys, mobilenets_jax; first = sorted(sys.modules)\n'
        'mobilenets_jax.create_model; mobilenets_jax.load_pretrained\n'
        'print([name for name in first if name.split(".")[0] in ("jax", "flax", "numpy", "tensorflow")])\n'
        'print("jax" in sys.modules, "tensorflow" in sys.modules)'
    )
    ended = run('-c', code)
    assert ended.stdout.splitlines() == ['[]', 'True False'], ended.stderr


def test_names_are_offered_and_are_those_of_their_modules():
    assert set(OFFERED) <= set(dir(mobilenets_jax)) and sorted(mobilenets_jax.__all__) == OFFERED
    from mobilenets_jax import inference, models, weights

    assert mobilenets_jax.create_model is models.create_model
    assert mobilenets_jax.list_models is models.list_models and mobilenets_jax.freeze is inference.freeze
    assert mobilenets_jax.load_pretrained is weights.load_pretrained
    assert re.fullmatch(r'\d+\.\d+\.\d+', mobilenets_jax.__version__)
    with pytest.raises(AttributeError, match="module 'mobilenets_jax' has no attribute 'create_modle'"):
        mobilenets_jax.create_modle  # noqa: B018


def test_example_of_the_readme_begins_with_what_is_offered():
    (example,) = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    beginning, _, _ = example.partition('variables =')  # what follows compiles for a while
    namespace = {}
    exec(beginning, namespace)
    assert namespace['model'].num_classes == 1000 and namespace['images'].shape == (1, 224, 224, 3)
    assert namespace['load_pretrained'] is mobilenets_jax.load_pretrained


def test_command_that_needs_tensorflow_is_quiet(tmp_path):
    """Left alone, TensorFlow writes two lines about oneDNN."""
    for name in ('cat', 'dog'):
        (tmp_path / 'images' / 'train' / name).mkdir(parents=True)
        (tmp_path / 'images' / 'val' / name).mkdir(parents=True)
        for split in ('train', 'val'):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'images' / split / name / '0.png')
    ended = run('-m', 'mobilenets_jax', 'prepare', tmp_path / 'images', tmp_path / 'records', '--shards=1')
    assert (ended.returncode, ended.stderr) == (0, '')


def test_the_package_asks_for_what_a_checkout_asks_for():
    """But for the accelerators, and for export, whose packages stand in an environment of their own."""
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    extras = [name for name in project['optional-dependencies'] if name not in ('tpu', 'cuda', 'export')]
    packaged = [*project['dependencies'], *(line for name in extras for line in project['optional-dependencies'][name])]
    lines = [line.partition('#')[0].strip() for line in (ROOT / 'requirements.txt').read_text().splitlines()]
    assert sorted(packaged) == sorted(line.replace('"', "'") for line in lines if line)


def test_a_package_that_is_missing_is_named_with_its_extra():
    extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']
    for package, extra in EXTRAS.items():
        assert extra in extras
        line, status = describe(ModuleNotFoundError(f'No module named {package!r}', name=f'{package}.part'))
        command = f"pip install 'mobilenets_jax[{extra}]'"
        assert (line, status) == (f'the Python package {package} is needed and not installed: {command} brings it.', 2)
    assert describe(ModuleNotFoundError("No module named 'nothing'", name='nothing')) is None


@pytest.mark.parametrize('name', ['digits', 'configs/digits.py', 'detection/bccd', 'base:segmentation'])
def test_a_config_is_found_by_its_name_anywhere(tmp_path, name):
    (tmp_path / 'digits').mkdir()  # such as a workdir
    code = f'from mobilenets_jax import cli; cli.parse(["inspect", "--config={name}"]); print(cli.config_view().task)'
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-c', code]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    tasks = {'detection/bccd': 'detection', 'base:segmentation': 'segmentation'}
    assert ended.stdout.split() == [tasks.get(name, 'classification')], ended.stderr


def test_train_and_eval_are_commands_too():
    for name, script in (('train', 'train.py'), ('eval', 'eval.py')):
        shown = [run(*command, '--help') for command in (('-m', 'mobilenets_jax', name), (script,))]
        assert shown[0].stdout == shown[1].stdout and '--workdir' in shown[0].stdout
