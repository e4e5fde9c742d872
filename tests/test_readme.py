"""What the README, the docs and the workflow name is there: files, commands, flags, fields; tables are as printed."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from configs import base
from configs.search import mnasnet_cifar10, netadapt_cifar10, tunas_cifar10
from mobilenets_jax import __main__ as command_line
from mobilenets_jax.commands import models
from mobilenets_jax.config import ConfigView

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
each_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)

CODE = re.compile(r'^```\w*[^\n]*\n(.*?)^```$|`([^`\n]+(?:\n[^`\n]+)?)`', re.MULTILINE | re.DOTALL)
FOLDERS = 'benchmarks|configs|docs|launch|mobilenets_jax|notebooks|tests'
PLACEHOLDERS = {'key', 'FIELD'}  # of a field's name
NO_FIELDS = {'data.yaml', 'search.json', 'search.png', 'model.spec', 'model.settings'}  # files, attributes of a network


def code_of(page: Path) -> list[str]:
    """What a page has as code: its blocks, with a command that goes on in the next line as one line, and its spans."""
    code = (block or span.replace('\n', ' ') for block, span in CODE.findall(page.read_text()))
    return [re.sub(r' *\\?\n(?=    )', ' ', re.sub(r'\\\n', ' ', part)) for part in code]


def commands_of(page: Path) -> Iterator[tuple[str, str]]:
    """The name of each command that a page has, and what follows it in its line."""
    for line in '\n'.join(code_of(page)).split('\n'):
        line = line.partition(' #')[0]
        for name, rest in re.findall(r'(?:python -m mobilenets_jax|bin/mobilenets|^mobilenets) ([a-z_]+)(.*)', line):
            yield name, rest
        for name, rest in re.findall(r'python (train|eval)\.py(.*)', line):
            yield name, rest


def flags_of_commands() -> dict[str, set[str]]:
    """The flags of each command, without its fields of a config."""

    def defined(name: str) -> set[str]:
        text = (ROOT / 'mobilenets_jax' / name).read_text()
        return {f'--{flag}' for flag in re.findall(r"flags\.DEFINE_\w+\(\s*'(\w+)'", text)}

    of_launchers = defined('cli.py') | {'--config', '--help'}
    flags = {'train': defined('commands/train.py') | of_launchers}
    flags['eval'] = defined('commands/evaluate.py') | of_launchers
    parsers = argparse.ArgumentParser().add_subparsers()
    for command in command_line.COMMANDS:
        command.add_parser(parsers)
    for name, parser in parsers.choices.items():
        flags[name] = set(re.findall(r'--\w+', parser.format_help()))
        if parser.get_default('reads_config'):
            flags[name] |= of_launchers
    return flags


def fields_of_configs() -> set[str]:
    """The dotted paths of the fields that any task or any search has."""
    configs = [base.get_config(task) for task in base.TASK_FIELDS]
    configs += [search.get_config() for search in (tunas_cifar10, netadapt_cifar10, mnasnet_cifar10)]
    return {leaf.removeprefix('config.') for config in configs for leaf in ConfigView(config.to_dict()).leaves()}


def slugs(page: Path) -> set[str]:
    """The headings of a page as GitHub makes anchors of them."""
    headings = re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


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


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


@each_page
def test_every_make_command_exists(page):
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    named = re.findall(r'(?:^|&& )make ([a-z-]+)', '\n'.join(code_of(page)), re.MULTILINE)
    assert set(named) <= set(targets)


@each_page
def test_every_link_leads_somewhere(page):
    for path, anchor in re.findall(r'\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)', page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in slugs(target), anchor


@each_page
def test_every_file_exists(page):
    code = '\n'.join(code_of(page))
    for name in re.findall(rf'(?<![\w/.-])((?:{FOLDERS})/[\w./-]*\w)', code):
        assert (ROOT / name).exists(), name
    for name in re.findall(r'--config=([\w/.]+)', code):
        name = name.removesuffix('.py').removeprefix('configs/')
        assert name.isupper() or (ROOT / 'configs' / f'{name}.py').exists(), name


@each_page
def test_every_command_and_flag_exists(page):
    flags = flags_of_commands()
    for name, rest in commands_of(page):
        assert name in flags, name
        unknown = set(re.findall(r'(?<![\w-])--[a-z_]+\b(?!\.)', rest)) - flags[name]
        assert not unknown, (name, rest)


@each_page
def test_every_field_of_a_config_exists(page):
    fields, code = fields_of_configs(), '\n'.join(code_of(page))
    sections = {field.partition('.')[0] for field in fields if '.' in field}
    named = set(re.findall(r'--config\.([\w.*]+)', code))
    for name in re.findall(rf'(?<![\w/.])((?:{"|".join(sections)})\.\w+\*?)(?![\w.(])', code):
        is_module = (ROOT / 'mobilenets_jax' / f'{name.replace(".", "/")}.py').exists()
        if not is_module and name not in NO_FIELDS:
            named.add(name)
    for name in named:
        start, star, _ = name.partition('*')
        known = any(field.startswith(start) for field in fields) if star else name in fields
        assert known or name.rpartition('.')[2] in PLACEHOLDERS, name


def test_the_table_of_networks_is_what_its_command_prints(capsys):
    assert command_line.main(['models', '--markdown']) == 0
    table, notes = capsys.readouterr().out.split(f'\n\n{models.TABLES["classification"].about_notes}\n\n')
    page = (ROOT / 'docs' / 'networks.md').read_text()
    assert page.split('Made by `python -m mobilenets_jax models --markdown`:\n\n')[1] == (
        f'{table}\n\n## Where paper and code disagree\n\n{notes}'
    )


def test_the_workflow_runs_what_the_project_must_pass():
    jobs = yaml.safe_load((ROOT / '.github' / 'workflows' / 'test.yml').read_text())['jobs']
    commands = {name: [step['run'] for step in job['steps'] if 'run' in step] for name, job in jobs.items()}
    assert commands['test'] == ['bash .ci/run'] and commands['lint'][0] == 'make lint'
    versions = next(step['with']['python-version'] for step in jobs['test']['steps'] if 'with' in step).split()
    ci = (ROOT / '.ci' / 'run').read_text()
    assert versions == ['3.13', '3.11'] and f'python{versions[0]}' in ci  # the last one is `python3`
    for file in re.findall(r'tests/\w+\.py', commands['lint'][1]):
        assert (ROOT / file).exists()
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    made = set(re.findall(r'^make ([\w-]+)', ci, re.MULTILINE))
    assert {'lint', 'test', 'test-part', 'test-export', 'test-wheel', 'test-launch'} <= made <= set(targets)
