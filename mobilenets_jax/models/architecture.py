"""A registered network: how to build it at a width under a convention, and its published figures."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models.specs import Convention, NetworkSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """What a paper or its authors' code print about one row.

    Attributes:
        params: parameters in millions, as printed.
        madds: multiply-adds in millions, as printed.
        top1: ImageNet top-1 in percent, as printed.
        source: where it is printed.
    """

    params: float | None = None
    madds: float | None = None
    top1: float | None = None
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network by name.

    Attributes:
        name: as users write it.
        build: `build(width_multiplier, convention, **fields)` gives the table; its keyword-only parameters are the
            network's own fields.
        conventions: by name; 'tf' is the default everywhere: the network as its authors' own code has it.
        widths: the width multipliers that exist; None for any positive one.
        published: the published figures, by (width multiplier, image size in pixels).
        notes: where the paper and the code disagree, one sentence each.
    """

    name: str
    build: Callable[..., NetworkSpec]
    conventions: Mapping[str, Convention]
    widths: tuple[float, ...] | None = None
    published: Mapping[tuple[float, int], Published] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, 'conventions', {'paper': self.conventions['tf'], **self.conventions})

    @property
    def own_fields(self) -> set[str]:
        """The names of the network's own fields: the keyword-only parameters of `build`."""
        parameters = inspect.signature(self.build).parameters.values()
        return {parameter.name for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY}

    def resolve(self, width_multiplier: float, convention: str, **fields) -> NetworkSpec:
        """The table at a width under a convention; fields of the convention and of the network may be set by name.

        Raises:
            UserError: for a width that is not positive or does not exist, an unknown convention or an unknown field.
        """
        check(width_multiplier > 0, 'width_multiplier', width_multiplier, 'must be positive')
        if self.widths is not None:
            check_choice(f'width_multiplier of {self.name}', width_multiplier, self.widths)
        check_choice(f'convention of {self.name}', convention, self.conventions)
        rules = self.conventions[convention]
        rule_names = {field.name for field in dataclasses.fields(rules)}
        own_names = self.own_fields
        for field in fields:
            check_choice(f'field of {self.name}', field, rule_names | own_names)
        rules = dataclasses.replace(rules, **{name: value for name, value in fields.items() if name in rule_names})
        own = {name: value for name, value in fields.items() if name in own_names}
        spec = self.build(width_multiplier, rules, **own)
        return spec if rules.activation is None else spec.with_rectifier(rules.activation)
