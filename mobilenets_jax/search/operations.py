"""What a network computes, operation by operation, read from its table: plain Python, microseconds a network.

`report.counts` reads the same from the traced computation, which takes half a second; a test holds both equal.
"""

from collections.abc import Iterator
from typing import NamedTuple

from mobilenets_jax.errors import UserError
from mobilenets_jax.models.specs import BlockSpec, NetworkSpec

OPERATION_NAMES = ('dense_kxk', 'pointwise', 'depthwise', 'fully_connected')


class Operation(NamedTuple):
    """A convolution or matrix product.

    Attributes:
        kind: one of `OPERATION_NAMES`; 'dense_kxk' are all convolutions larger than 1x1 that are not depthwise.
        madds: multiply-adds of one image.
    """

    kind: str
    madds: int


class Position(NamedTuple):
    """A row at its place in a network.

    Attributes:
        row: of the table.
        in_channels: of its input.
        in_size: height and width of its input, in pixels.
        out_size: of its output.
    """

    row: BlockSpec
    in_channels: int
    in_size: int
    out_size: int

    @property
    def squeezed(self) -> int:
        """Channels of the squeeze; 0 without squeeze-excite."""
        row = self.row
        if row.squeeze_excite is None:
            return 0
        gated = row.out_channels if row.kind in ('depthwise_separable', 'dense_conv') else row.expanded
        return row.squeeze_excite.squeezed(self.in_channels, gated)


def positions(spec: NetworkSpec, image_size: int) -> Iterator[Position]:
    """Every row of a table with the size of its input and output.

    Args:
        spec: with rows of `BlockSpec`.
        image_size: height and width of the images, in pixels.

    Raises:
        UserError: a row is of another kind.
    """
    size = -(-image_size // spec.stem.stride)
    if spec.stem_pool:
        size = -(-size // 2)
    channels = spec.stem.channels
    for row in spec.blocks:
        known = tuple(_OPERATIONS) if isinstance(row, BlockSpec) else ()
        if row.kind not in known:
            raise UserError(f'a block of the kind {row.kind!r} has no latency. Known: {", ".join(_OPERATIONS)}.')
        out_size = -(-size // row.stride)
        yield Position(row, channels, size, out_size)
        size, channels = out_size, row.out_channels


def operations(spec: NetworkSpec, image_size: int, num_classes: int = 1000) -> Iterator[Operation]:
    """Every convolution and matrix product of a classifier.

    Args:
        spec: with rows of `BlockSpec`.
        image_size: height and width of the images, in pixels.
        num_classes: of the logits.
    """
    size = -(-image_size // spec.stem.stride)
    yield _convolution(size, 3, spec.stem.channels, spec.stem.kernel_size)
    channels = spec.stem.channels
    for position in positions(spec, image_size):
        yield from _OPERATIONS[position.row.kind](position)
        size, channels = position.out_size, position.row.out_channels
    if spec.head_conv is not None:
        yield _convolution(size, channels, spec.head_conv.channels)
        channels = spec.head_conv.channels
    if spec.pre_logits is not None:
        yield Operation('fully_connected', channels * spec.pre_logits)
        channels = spec.pre_logits
    yield Operation('fully_connected', channels * num_classes)


def _convolution(out_size: int, in_channels: int, out_channels: int, kernel_size: int = 1) -> Operation:
    kind = 'pointwise' if kernel_size == 1 else 'dense_kxk'
    return Operation(kind, out_size**2 * kernel_size**2 * in_channels * out_channels)


def _depthwise(position: Position, channels: int) -> Operation:
    return Operation('depthwise', position.out_size**2 * position.row.kernel_size**2 * channels)


def _squeeze_excite(position: Position, gated: int) -> Iterator[Operation]:
    if position.squeezed:
        yield from 2 * (Operation('fully_connected', position.squeezed * gated),)


def _inverted_residual(position: Position) -> Iterator[Operation]:
    row = position.row
    if row.expanded != position.in_channels:
        yield _convolution(position.in_size, position.in_channels, row.expanded)
    yield _depthwise(position, row.expanded)
    yield from _squeeze_excite(position, row.expanded)
    yield _convolution(position.out_size, row.expanded, row.out_channels)


def _dense_inverted_residual(position: Position) -> Iterator[Operation]:
    row = position.row
    if row.expanded != position.in_channels:
        yield _convolution(position.out_size, position.in_channels, row.expanded, row.kernel_size)
    yield _convolution(position.out_size, row.expanded, row.out_channels)


def _depthwise_separable(position: Position) -> Iterator[Operation]:
    yield _depthwise(position, position.in_channels)
    yield _convolution(position.out_size, position.in_channels, position.row.out_channels)
    yield from _squeeze_excite(position, position.row.out_channels)


def _dense_conv(position: Position) -> Iterator[Operation]:
    row = position.row
    yield _convolution(position.out_size, position.in_channels, row.out_channels, row.kernel_size)
    yield from _squeeze_excite(position, row.out_channels)


_OPERATIONS = {
    'dense_conv': _dense_conv,
    'dense_inverted_residual': _dense_inverted_residual,
    'depthwise_separable': _depthwise_separable,
    'inverted_residual': _inverted_residual,
}
