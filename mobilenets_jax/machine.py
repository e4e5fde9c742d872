"""What is kept on this machine from one process to the next: where, and for which processor."""

import os
import pathlib
import platform


def cache_folder() -> pathlib.Path:
    """The folder of this project in the user's cache; it may not be there yet."""
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache', 'mobilenets_jax')


def processor_features() -> str:
    """What the processor can do, as Linux tells it; empty elsewhere."""
    return next((line for line in _processor_lines() if line.startswith(('flags', 'Features'))), '')


def processor_name() -> str:
    """The name of the processor; if it is not known, its architecture."""
    names = (line.partition(':')[2].strip() for line in _processor_lines() if line.startswith('model name'))
    return next(names, '') or platform.processor() or platform.machine()


def _processor_lines() -> list[str]:
    try:
        return pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return []
