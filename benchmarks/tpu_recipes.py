"""What the ImageNet recipes need of TPU slices, by the compiler's report and the chips' published figures.

    python -m benchmarks.tpu_recipes [--again]

Compiles each recipe for each slice (`python -m mobilenets_jax compile`, which needs libtpu and no TPU) unless
tpu_recipes.json has it already, and writes what follows into docs/tpu.md and the files of launch/. `--again` compiles
all of them anew: half an hour on two idle cores. Nothing of it is measured but the images that a CPU core prepares.
"""

import argparse
import datetime
import importlib.metadata
import itertools
import json
import math
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from configs.imagenet import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small

ROOT = pathlib.Path(__file__).parents[1]
FIGURES = ROOT / 'benchmarks' / 'tpu_recipes.json'
PAGE = ROOT / 'docs' / 'tpu.md'
BEGIN, END = '<!-- python -m benchmarks.tpu_recipes writes this -->\n', '<!-- end -->\n'
# A recipe and a slice in a comment of a file of launch/, and the hours behind them.
HOURS = re.compile(r'(?P<recipe>\w+) on (?P<slice>[\w-]+): (?P<hours>[\d.]+|\?) hours')
LAUNCHED = (ROOT / 'launch' / 'sky.yaml', ROOT / 'launch' / 'jobset.yaml')

RECIPES = {
    module.__name__.rpartition('.')[2]: module.get_config
    for module in (mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small)
}
TRAINING_IMAGES = 1_281_167  # of ImageNet-1k
# The slowest of this project's three sources of images on a free machine, RESULTS.md, 'Reading, decoding, ...'.
IMAGES_PER_CORE = 801
MIB, GIB = 1 << 20, 1 << 30


class Slice(NamedTuple):
    """A TPU slice; a device is what JAX sees: a core of v3, a chip of the others.

    Attributes:
        topology: as libtpu names it.
        hosts: that feed it.
        host_cores: virtual ones, of each host.
        memory: of a device, bytes.
        bandwidth: of a device's memory, bytes a second.
        peak: of a device, bfloat16 operations a second.
    """

    topology: str
    hosts: int
    host_cores: int
    memory: float
    bandwidth: float
    peak: float


# Memory, bandwidth and peak of a chip: https://cloud.google.com/tpu/docs/v3, /v4 and /v6e, which has v5e beside it.
# Hosts have four chips, that of v6e-8 has eight; they are GKE's machine types ct3p-hightpu-4t, ct4p-hightpu-4t,
# ct5lp-hightpu-4t and ct6e-standard-8t.
SLICES = {
    'v3-32': Slice('v3:4x4', 4, 48, 16 * GIB, 900e9 / 2, 123e12 / 2),
    'v4-32': Slice('v4:2x2x4', 4, 240, 32 * GIB, 1200e9, 275e12),
    'v5e-16': Slice('v5e:4x4', 4, 112, 16e9, 800e9, 197e12),
    'v6e-8': Slice('v6e:2x4', 1, 180, 32e9, 1600e9, 918e12),
}


class Needs(NamedTuple):
    """What follows from a compiled step.

    Attributes:
        memory_seconds: of a step, to move the bytes that the compiler counts.
        arithmetic_seconds: of a step, to do its FLOPs at the peak.
        images_per_second: of the slice, by the longer of the two.
        host_images_per_second: what a host has to deliver then.
        host_cores: that this takes.
        device_hours: of the recipe, if its images come in time.
        hours: of the recipe, if each host has no more cores than there are.
    """

    memory_seconds: float
    arithmetic_seconds: float
    images_per_second: float
    host_images_per_second: float
    host_cores: int
    device_hours: float
    hours: float


def needs(report: dict[str, Any], tpu: Slice, epochs: float) -> Needs:
    """Of a report of `python -m mobilenets_jax compile --json`, whose step fits."""
    memory_seconds, arithmetic_seconds = report['bytes_accessed'] / tpu.bandwidth, report['flops'] / tpu.peak
    images_per_second = report['batch_size'] / max(memory_seconds, arithmetic_seconds)
    of_a_host = images_per_second / tpu.hosts
    delivered = min(of_a_host, tpu.host_cores * IMAGES_PER_CORE) * tpu.hosts
    seconds = epochs * TRAINING_IMAGES
    return Needs(
        memory_seconds,
        arithmetic_seconds,
        images_per_second,
        of_a_host,
        math.ceil(of_a_host / IMAGES_PER_CORE),
        seconds / images_per_second / 3600,
        seconds / delivered / 3600,
    )


PROGRAM_HEADER = (
    '| recipe | slice | images a device | memory, of GiB there | bytes accessed | FLOPs | collectives |\n'
    '|---|---|---:|---:|---:|---:|---:|'
)
TIME_HEADER = (
    '| recipe | slice | ms a step: memory, arithmetic | images/s | hours | images/s a host | cores for them, of | '
    'hours with these |\n|---|---|---:|---:|---:|---:|---:|---:|'
)


def program_row(recipe: str, name: str, report: dict[str, Any]) -> str:
    """What the compiler reports of one step on one device."""
    there = f'{SLICES[name].memory / GIB:.1f}'
    if not report['fits']:
        return f'| {recipe} | {name} | {report["per_device"]} | does not fit, of {there} | | | |'
    used = (report['argument_bytes'] + report['temporary_bytes']) / GIB
    collectives = ', '.join(f'{count} {kind}' for kind, count in report['collectives'].items())
    return (
        f'| {recipe} | {name} | {report["per_device"]} | {used:.1f}, of {there} | '
        f'{report["bytes_accessed"] / MIB:,.0f} MiB | {report["flops"] / 1e9:,.0f} G | '
        f'{collectives}: {report["collective_bytes"] / MIB:.1f} MiB |'
    )


def time_row(recipe: str, name: str, report: dict[str, Any], epochs: float) -> str:
    """What follows for time and input."""
    if not report['fits']:
        return f'| {recipe} | {name} | does not fit | | | | | |'
    tpu = SLICES[name]
    found = needs(report, tpu, epochs)
    return (
        f'| {recipe} | {name} | {1e3 * found.memory_seconds:.1f}, {1e3 * found.arithmetic_seconds:.1f} | '
        f'{found.images_per_second:,.0f} | {found.device_hours:.1f} | {found.host_images_per_second:,.0f} | '
        f'{found.host_cores}, of {tpu.host_cores} | {found.hours:.1f} |'
    )


def tables(figures: dict[str, dict[str, dict]]) -> str:
    """Both tables in Markdown, with what they were made by.

    Args:
        figures: reports of `compile`, with 'made_by', by recipe and slice.
    """
    known = [(recipe, name) for recipe, name in itertools.product(RECIPES, SLICES) if name in figures.get(recipe, {})]
    rows = [(recipe, name, figures[recipe][name]) for recipe, name in known]
    made_by = '; '.join(sorted({report['made_by'] for *_, report in rows}))
    programs = [program_row(*row) for row in rows]
    times = [time_row(*row, RECIPES[row[0]]().num_epochs) for row in rows]
    return '\n'.join([f'{made_by}:\n', PROGRAM_HEADER, *programs, '', TIME_HEADER, *times]) + '\n'


def with_tables(page: str, figures: dict[str, dict[str, dict]]) -> str:
    """The text of docs/tpu.md with the tables between the two comments."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f'error: {PAGE} has lost the two comments that the tables stand between')
    return f'{before}{BEGIN}\n{tables(figures)}\n{END}{after}'


def with_hours(text: str, figures: dict[str, dict[str, dict]]) -> str:
    """The text of a file of launch/ with the hours of the recipes on the slices that it names."""

    def hours(found: re.Match) -> str:
        recipe, name = found['recipe'], found['slice']
        hours = needs(figures[recipe][name], SLICES[name], RECIPES[recipe]().num_epochs).hours
        return f'{recipe} on {name}: {hours:.1f} hours'

    return HOURS.sub(hours, text)


def compiled(recipe: str, tpu: Slice) -> dict[str, Any]:
    """The compiler's report on a recipe, with what made it."""
    command = [sys.executable, '-m', 'mobilenets_jax', 'compile', '--json']
    command += [f'--config=configs/imagenet/{recipe}.py', f'--topology={tpu.topology}']
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        sys.exit(ended.returncode)
    versions = (f'{package} {importlib.metadata.version(package)}' for package in ('libtpu', 'jax'))
    return {**json.loads(ended.stdout), 'made_by': f'{datetime.date.today()}, {", ".join(versions)}'}


def complete(figures: dict[str, dict[str, dict]], again: bool) -> None:
    """Adds the reports that are missing; each is written to `FIGURES` as soon as it is known.

    Args:
        figures: those that are known, by recipe and slice.
        again: compile also those.
    """
    for recipe, name in itertools.product(RECIPES, SLICES):
        found = figures.setdefault(recipe, {})
        if again or name not in found:
            print(f'compiling {recipe} for {name}', file=sys.stderr, flush=True)
            found[name] = compiled(recipe, SLICES[name])
            FIGURES.write_text(json.dumps(figures, indent=1) + '\n')


def write(figures: dict[str, dict[str, dict]]) -> None:
    """Writes the tables and the hours to where they stand."""
    PAGE.write_text(with_tables(PAGE.read_text(), figures))
    for path in LAUNCHED:
        path.write_text(with_hours(path.read_text(), figures))


def main(argv: Sequence[str]) -> None:
    """Compiles what is missing, and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--again', action='store_true', help='compile all, also what is known')
    arguments = parser.parse_args(argv)
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    complete(figures, arguments.again)
    write(figures)


if __name__ == '__main__':
    main(sys.argv[1:])
