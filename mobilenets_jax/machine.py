"""What is kept on this machine from one process to the next: where, and for which processor."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """The folder of this project in the user's cache; it may not be there yet."""
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache', 'mobilenets_jax')


def processor_features() -> str:
    """What the processor can do, as Linux tells it; empty elsewhere."""
    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return ''
    return next((line for line in lines if line.startswith(('flags', 'Features'))), '')
