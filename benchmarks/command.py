"""The command line that the races share."""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Sequence

from benchmarks.race import Contender, race, table

PACKAGES = ('jax', 'flax', 'torch', 'timm', 'tensorflow', 'tensorflow-cpu', 'keras', 'onnxruntime', 'ai-edge-litert')


def main(task: str, contenders: Sequence[Contender], ours: str) -> None:
    """Races, prints a Markdown table with what it was made by, and writes the same as JSON where `--json` says."""
    parser = argparse.ArgumentParser(description='Images a second beside other programs, measured alternately.')
    parser.add_argument('--network', default='mobilenet_v2')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--size', type=int, default=224, help='height and width of the images, in pixels')
    parser.add_argument('--dtype', help='float32 or bfloat16 (automatic mixed precision), for those that know it')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=2.0, help='of a turn')
    parser.add_argument('--only', default='', help='parts of names, comma-separated; ours is always there')
    parser.add_argument('--json', type=pathlib.Path)
    arguments = parser.parse_args()

    wanted = arguments.only.split(',')
    chosen = [one for one in contenders if one.name == ours or any(part in one.name for part in wanted)]
    options = {'network': arguments.network, 'batch': arguments.batch, 'size': arguments.size}
    if arguments.dtype:
        options['dtype'] = arguments.dtype
    speeds = race(chosen, task, options, rounds=arguments.rounds, seconds=arguments.seconds).speeds
    facts = {
        'task': task,
        **options,
        'rounds': arguments.rounds,
        'date': datetime.date.today().isoformat(),
        'machine': f'{os.cpu_count()} cores, {platform.machine()}',
        'load': os.getloadavg()[0],
        'versions': versions(),
    }
    print(', '.join(f'{name} {value}' for name, value in facts.items()))
    print(table(speeds, ours), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({**facts, 'images_per_second': speeds}, indent=2))


def versions() -> str:
    """Of the packages that a race depends on."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f'{package} {importlib.metadata.version(package)}')
        except importlib.metadata.PackageNotFoundError:
            continue
    return ', '.join(found)
