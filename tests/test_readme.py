"""What the README and the docs name is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))


def test_every_test_that_holds_a_promise_exists():
    text = (ROOT / 'docs' / 'reliability.md').read_text()
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
    for page in PAGES:
        assert set(re.findall(r'`make ([a-z-]+)', page.read_text())) <= set(targets), page


def test_every_linked_file_exists():
    for page in PAGES:
        for link in re.findall(r'\]\((?!http)([^)#]+)', page.read_text()):
            assert (page.parent / link).exists(), (page, link)
