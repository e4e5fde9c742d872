"""Writes what `golden/` holds of networks: `make golden NAMES="NAME ..."`.

Counts that are there stay: they are the papers' and other code's, not ours. A row that is new says what the network has
today, for whoever adds it to check by the source.
"""

import json
import os
import sys

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import golden_values

from mobilenets_jax.models import list_models
from mobilenets_jax.ops.cpu import native


def main(names: list[str]) -> int:
    """Writes the files; the exit status is 2 if a name is unknown."""
    unknown = [name for name in names if name not in list_models()]
    if unknown or not names:
        print(f'error: NAMES={" ".join(names)!r} must be of: {", ".join(list_models())}.', file=sys.stderr)
        return 2
    for name in names:
        file = golden_values.parameters_file(name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(golden_values.parameters(name))
    rows = json.loads(golden_values.COUNTS.read_text())
    known = {row['name'] for row in rows}
    rows += [golden_values.counts(name) for name in names if name not in known]
    golden_values.COUNTS.write_text('[\n' + ',\n'.join(f'  {json.dumps(row)}' for row in rows) + '\n]\n')
    _write_table(golden_values.ENDPOINTS, {name: golden_values.endpoints(name) for name in names})
    if native.is_available():
        _write_table(golden_values.NATIVE_CALLS, {name: golden_values.native_calls(name) for name in names})
    else:
        print(f'{golden_values.NATIVE_CALLS.name}: left, since no native ops can be built here', file=sys.stderr)
    print(f'golden files of {", ".join(names)}: written; `git diff tests/golden` shows them')
    return 0


def _write_table(file, entries: dict) -> None:
    """Puts the entries into a file, a line for each network, in the order of `list_models`."""
    table = json.loads(file.read_text()) | entries
    lines = [f'  "{name}": {json.dumps(table[name])}' for name in list_models() if name in table]
    file.write_text('{\n' + ',\n'.join(lines) + '\n}\n')


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
