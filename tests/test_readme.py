"""What the README names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_holds_a_promise_exists():
    text = (ROOT / 'README.md').read_text()
    rows = [line for line in text.splitlines() if line.startswith('|') and '`tests/' in line]
    assert len(rows) > 20
    for row in rows:
        folder = ROOT
        for name in re.findall(r'`(tests/[\w/]+(?:\.py)?|test_\w+\.py)`', row):
            path = ROOT / name if name.startswith('tests/') else folder / name  # a bare name is beside the last path
            assert path.exists(), row
            folder = path.parent


def test_every_make_command_exists():
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert set(re.findall(r'`make ([a-z-]+)', (ROOT / 'README.md').read_text())) <= set(targets)
