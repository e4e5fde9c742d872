"""docs/adding.md, followed word by word: a toy network in a copy of the project."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
FILES = re.compile(r'^```(?:python|text) title=(\S+)(?: replace="(.*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def run(copy, *arguments):
    environment = {**os.environ, 'PYTHONPATH': f'{copy / "tests"}:{copy}', 'JAX_PLATFORMS': 'cpu'}
    return subprocess.run([sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True)


def test_a_network_is_added_as_the_page_says(tmp_path):
    copy = tmp_path / 'project'
    for folder in ('mobilenets_jax', 'configs'):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copytree(ROOT / 'tests' / 'golden', copy / 'tests' / 'golden')
    for file in ('golden_values.py', 'make_golden.py', 'model_cases.py', 'models/test_counts.py'):
        (copy / 'tests' / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / 'tests' / file, copy / 'tests' / file)

    for name, replaced, text in FILES.findall((ROOT / 'docs' / 'adding.md').read_text()):
        file = copy / name
        if replaced:
            content = file.read_text()
            assert content.count(f'\n{replaced}\n') >= 1
            file.write_text(content.replace(f'{replaced}\n', text))
        else:
            assert not file.exists()
            file.write_text(text)

    test = ('-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests/models/test_counts.py', '-k', 'golden or toynet')
    missing = run(copy, *test)
    assert missing.returncode == 1, missing.stdout
    assert 'make golden NAMES="toynet"' in missing.stdout
    written = run(copy, 'tests/make_golden.py', 'toynet')
    assert written.returncode == 0, written.stderr
    passed = run(copy, *test)
    assert passed.returncode == 0, passed.stdout
    lines = (copy / 'tests' / 'golden' / 'parameters' / 'toynet.txt').read_text().splitlines()
    assert 'params/backbone/block05/conv/conv/kernel (3, 3, 64, 96)' in lines
    weights = 3 * 3 * (3 * 16 + 16 * 16 + 16 * 24 + 24 * 32 + 32 * 64 + 64 * 96)
    norms = 2 * (16 + 16 + 24 + 32 + 64 + 96)
    expected = weights + norms + 96 * 1000 + 1000
    counts = (copy / 'tests' / 'golden' / 'counts.json').read_text()
    assert f'"name": "toynet", "width": 1.0, "params": {expected}' in counts
    unknown = run(copy, 'tests/make_golden.py', 'toynett')
    assert unknown.returncode == 2 and unknown.stderr.startswith("error: NAMES='toynett' must be of: mobilenet_v1, ")
