"""What a search ends with, whatever its algorithm."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mobilenets_jax.models.found import to_text
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.tables import aligned


class Found(NamedTuple):
    """A network that was found.

    Attributes:
        name: of the network.
        spec: its table, with all of its strides.
        metrics: what is to be said of it, by name, JSON-able.
    """

    name: str
    spec: NetworkSpec
    metrics: Mapping[str, Any]

    @property
    def json(self) -> str:
        """The text of a file that `model.spec_file` takes."""
        return json.dumps(json.loads(to_text(self.name, self.spec)), indent=2) + '\n'


def table_lines(spec: NetworkSpec) -> list[str]:
    """The rows of a network as the papers print them."""
    header = ('row', 'block', 'kernel', 'exp size', 'out', 'SE', 'NL', 's')
    rows = [
        (
            str(number),
            row.kind,
            str(row.kernel_size),
            str(row.expanded),
            str(row.out_channels),
            'yes' if row.squeeze_excite else '-',
            row.activation,
            str(row.stride),
        )
        for number, row in enumerate(spec.blocks, start=1)
    ]
    return aligned([header, *rows], text_columns=(1, 5, 6))
