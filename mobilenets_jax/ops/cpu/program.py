"""A traced function, run with its convolutions and what follows them as fused operations.

The program of a network is a list of equations. Those of `ops.conv`, `ops.batch_norm` and `ops.normalize` carry their
names and options (`ops.marked`). A convolution whose outputs only a normalisation reads is a layer with it; layers that
follow each other, where nobody else reads what is between them, are a chain. In training a chain is one `conv_norms`;
in evaluation it is as few operations as there are native ops for, with the normalisations and the residual in them.
"""

import collections
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from mobilenets_jax.ops.cpu.chains import Convolution, Unit, conv_norms
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.cpu.strips import Step, convolve_in_turn, runs_in_strips
from mobilenets_jax.ops.marked import mark_of
from mobilenets_jax.ops.norm import NormOptions

Equation = core.JaxprEqn
Variable = Any  # of a traced program: `core.Var` or `core.Literal`
LONGEST_STRIP = 3


def fused_program(function: Callable, args: Sequence[Any]) -> Any:
    """Calls `function` on trees of arrays, with its chains fused."""
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    values = _Values(program, jax.tree.leaves(args))
    return jax.tree.unflatten(jax.tree.structure(shapes), [values.read(variable) for variable in values.results])


class _Conv(NamedTuple):
    """A convolution in a program; of several that are one in groups, all of them."""

    convolution: Convolution
    inputs: Variable
    kernels: tuple[Variable, ...]
    outputs: Variable
    equations: tuple[Equation, ...]


class _Layer(NamedTuple):
    """A convolution, and the normalisation that alone reads its outputs."""

    conv: _Conv
    norm: Equation
    operation: str
    options: NormOptions

    @property
    def outputs(self) -> Variable:
        return self.norm.outvars[0]


class _Values:
    """The values of a program's variables, each computed when it is asked for or needed.

    Args:
        program: traced.
        inputs: of it.
    """

    def __init__(self, program: core.ClosedJaxpr, inputs: Sequence[jax.Array]):
        jaxpr = program.jaxpr
        self.results = jaxpr.outvars
        self._values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, *inputs), strict=True))
        equations = _needed(jaxpr)
        self._readers = collections.defaultdict(list)
        for equation in equations:
            for variable in filter(_is_variable, equation.invars):
                self._readers[variable].append(equation)
        for variable in filter(_is_variable, jaxpr.outvars):
            self._readers[variable].append(None)  # whoever called
        self._made_by = {variable: equation for equation in equations for variable in equation.outvars}
        self._chain_at = {}  # by the identity of each of its equations
        self._ran = set()
        for chain in self._chains(equations):
            for equation in _equations_of(chain):
                self._chain_at[id(equation)] = chain
        for equation in equations:
            self._run(equation)

    def read(self, variable: Variable) -> jax.Array:
        """The value of a variable, computed now if it was not."""
        if not _is_variable(variable):
            return variable.val
        if variable not in self._values:
            self._run(self._made_by[variable])
        return self._values[variable]

    def _run(self, equation: Equation) -> None:
        if id(equation) in self._ran:
            return
        chain = self._chain_at.get(id(equation))
        if chain is not None:
            self._ran |= {id(one) for one in _equations_of(chain)}
            (self._train if chain[0].operation == 'batch_norm' else self._evaluate)(chain)
            return
        self._ran.add(id(equation))
        parameters = equation.primitive.get_bind_params(equation.params)
        outputs = equation.primitive.bind(*map(self.read, equation.invars), **parameters)
        self._write(equation.outvars, outputs if equation.primitive.multiple_results else [outputs])

    def _write(self, variables: Sequence[Variable], values: Sequence[jax.Array]) -> None:
        self._values.update(zip(variables, values, strict=True))

    def _train(self, chain: Sequence[_Layer]) -> None:
        units = []
        for layer in chain:
            _, scale, bias = layer.norm.invars
            kernel = self._kernel(layer.conv)
            units.append(
                Unit(layer.conv.convolution, kernel, self.read(scale), self.read(bias), layer.options.activation)
            )
        options = {'epsilon': chain[0].options.epsilon, 'axis_name': chain[0].options.axis_name}
        results = conv_norms(self.read(chain[0].conv.inputs), units, **options)
        for layer, outputs in zip(chain, results, strict=True):
            self._write(layer.norm.outvars, outputs)

    def _evaluate(self, chain: Sequence[_Layer]) -> None:
        steps = []
        for layer in chain:
            arrays = [self.read(variable) for variable in layer.norm.invars[1:]]
            then = Normalization(*arrays, layer.options.epsilon, layer.options.activation)
            steps.append(Step(layer.conv.convolution, self._kernel(layer.conv), then))
        outputs = chain[-1].outputs
        if (addition := self._addition(chain[-1])) is not None:
            (other,) = [variable for variable in addition.invars if variable is not outputs]
            steps[-1] = steps[-1]._replace(then=steps[-1].then._replace(residual=self.read(other)))
            outputs = addition.outvars[0]
            self._ran.add(id(addition))
        x = self.read(chain[0].conv.inputs)
        while steps:
            lengths = range(min(LONGEST_STRIP, len(steps)), 1, -1)
            length = next((length for length in lengths if runs_in_strips(x, steps[:length])), 1)
            some, steps = steps[:length], steps[length:]
            x = convolve_in_turn(x, some) if length > 1 else some[0].convolution(x, some[0].kernel, some[0].then)
        self._values[outputs] = x

    def _kernel(self, conv: _Conv) -> jax.Array:
        kernels = [self.read(kernel) for kernel in conv.kernels]
        return kernels[0] if len(kernels) == 1 else jnp.concatenate(kernels, axis=-1)

    def _addition(self, layer: _Layer) -> Equation | None:
        """What alone reads the outputs of a layer and adds what is known already, if there is such an addition."""
        reader = self._only_reader(layer.outputs)
        if reader is None or reader.primitive.name != 'add' or reader.invars[0] is reader.invars[1]:
            return None
        (other,) = [variable for variable in reader.invars if variable is not layer.outputs]
        return reader if other in self._values and other.aval.shape == layer.outputs.aval.shape else None

    def _only_reader(self, variable: Variable) -> Equation | None:
        readers = self._readers[variable]
        return readers[0] if len(readers) == 1 else None

    def _chains(self, equations: Sequence[Equation]) -> list[list[_Layer]]:
        chains, chain_to = [], {}  # the chain that makes a variable
        for layer in filter(None, map(self._layer, equations)):  # each behind those that it reads
            chain = chain_to.get(layer.conv.inputs)
            if chain is not None and self._may_follow(chain[-1], layer):
                chain.append(layer)
            else:
                chain = [layer]
                chains.append(chain)
            chain_to[layer.outputs] = chain
        return chains

    def _may_follow(self, layer: _Layer, following: _Layer) -> bool:
        same = layer.operation == following.operation
        if layer.operation == 'batch_norm':
            same = same and layer.options._replace(activation='') == following.options._replace(activation='')
        return same and self._only_reader(layer.outputs) in following.conv.equations

    def _layer(self, norm: Equation) -> _Layer | None:
        """The layer that an equation is the end of."""
        mark = mark_of(norm)
        if mark is None or mark.operation not in ('batch_norm', 'normalize'):
            return None
        made_by = self._made_by.get(norm.invars[0])
        conv = None if made_by is None else self._conv(made_by)
        if conv is None or self._only_reader(conv.outputs) is not norm:
            return None
        return _Layer(conv, norm, mark.operation, mark.options)

    def _conv(self, equation: Equation) -> _Conv | None:
        """The convolution that an equation is the end of."""
        mark = mark_of(equation)
        if mark is not None and mark.operation == 'conv':
            inputs, kernel = equation.invars
            convolution = Convolution.of(mark.options, inputs.aval, kernel.aval)
            return _Conv(convolution, inputs, (kernel,), equation.outvars[0], (equation,))
        return self._conv_in_groups(equation) if equation.primitive.name == 'concatenate' else None

    def _conv_in_groups(self, joined: Equation) -> _Conv | None:
        """Pointwise convolutions of even parts of the same channels, whose outputs are joined again."""
        made_by = [self._made_by.get(variable) for variable in joined.invars]
        convs = [None if equation is None else self._conv(equation) for equation in made_by]
        if not all(convs) or joined.params['dimension'] != 3 or any(len(conv.kernels) > 1 for conv in convs):
            return None
        parts = [self._made_by.get(conv.inputs) for conv in convs]
        if any(part is None or part.primitive.name != 'slice' for part in parts):
            return None
        kernels, source = [conv.kernels[0] for conv in convs], parts[0].invars[0]
        shapes = {kernel.aval.shape for kernel in kernels}
        plain = Convolution(depthwise=False, padding=convs[0].convolution.padding)
        alone = all(self._readers[conv.outputs] == [joined] for conv in convs)
        same = all(part.invars[0] is source for part in parts) and {conv.convolution for conv in convs} == {plain}
        if not alone or not same or len(shapes) > 1 or next(iter(shapes))[:2] != (1, 1):
            return None
        shuffled = _shuffled(parts, source.aval.shape)
        if shuffled is None:
            return None
        convolution = Convolution(depthwise=False, groups=len(convs), shuffled=shuffled, padding=plain.padding)
        equations = tuple(conv.equations[0] for conv in convs) + (joined,)
        return _Conv(convolution, source, tuple(kernels), joined.outvars[0], equations)


def _shuffled(slices: Sequence[Equation], shape: Sequence[int]) -> bool | None:
    """Whether the parts of the channels are shuffled or contiguous; None if they are neither, or not all of them."""
    *image, channels = shape
    groups = len(slices)
    width = channels // groups
    if channels % groups:
        return None
    found = []
    for part in slices:
        start, limit = part.params['start_indices'], part.params['limit_indices']
        strides = part.params['strides'] or (1,) * 4
        if tuple(start[:3]) != (0, 0, 0) or tuple(limit[:3]) != tuple(image) or tuple(strides[:3]) != (1, 1, 1):
            return None
        found.append((start[3], strides[3], part.outvars[0].aval.shape[3]))
    if found == [(group * width, 1, width) for group in range(groups)]:
        return False
    return True if found == [(group, groups, width) for group in range(groups)] else None


def _equations_of(chain: Sequence[_Layer]) -> list[Equation]:
    return [equation for layer in chain for equation in (*layer.conv.equations, layer.norm)]


def _needed(jaxpr: core.Jaxpr) -> list[Equation]:
    """The equations that the results come from, or that do something else, in their order."""
    live, equations = set(filter(_is_variable, jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not live.isdisjoint(equation.outvars):
            live.update(filter(_is_variable, equation.invars))
            equations.append(equation)
    return equations[::-1]


def _is_variable(variable: Variable) -> bool:
    return not isinstance(variable, core.Literal)
