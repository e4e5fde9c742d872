"""The last stage as detection and segmentation networks have it: with half of the channels, derived from the table.

Where there are fewer classes than ImageNet's, the stage at stride 32 and what follows it are wider than they need be.

Paper: 1905.02244 sections 6.3 and 6.4 (Tables 7 and 8: 'RF2').
Reference: tensorflow/models research/slim/nets/mobilenet/mobilenet_v3.py@03cdc5f (`_reduce_consecutive_layers`,
    `V3_LARGE_DETECTION`, `V3_SMALL_DETECTION`); deeplab/core/feature_extractor.py (`mobilenet_v3_large_seg`);
    `reduced_tail` of torchvision 0.28 models/mobilenetv3.py.
"""

import dataclasses

from mobilenets_jax.errors import check_choice
from mobilenets_jax.models.specs import NetworkSpec

FULL = 'full'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tail:
    """What is left of a network from its last strided block on.

    Attributes:
        divisor: of the outputs of these blocks, and of the layers after them. The expansions of all but the first
            block follow the outputs that they expand.
        expansion_divisor: of the expansion of the first of these blocks.
        head_conv: whether the convolution after the blocks is kept.
    """

    divisor: int = 2
    expansion_divisor: int = 1
    head_conv: bool = True


def with_tail(table: NetworkSpec, tails: dict[str, Tail], tail: str) -> NetworkSpec:
    """The table, at width 1.0, with another tail.

    Args:
        table: of `BlockSpec` rows.
        tails: those of the network, by name, beside 'full'.
        tail: one of them, or 'full', which is the table itself.
    """
    check_choice('model.tail', tail, (FULL, *tails))
    if tail == FULL:
        return table
    rules, blocks = tails[tail], list(table.blocks)
    first = max(index for index, row in enumerate(blocks) if row.stride == 2)
    for index in range(first, len(blocks)):
        row = blocks[index]
        divisor = rules.expansion_divisor if index == first else rules.divisor
        blocks[index] = dataclasses.replace(
            row, expanded=row.expanded // divisor, out_channels=row.out_channels // rules.divisor
        )
    head_conv = table.head_conv if rules.head_conv else None
    return dataclasses.replace(
        table,
        blocks=tuple(blocks),
        head_conv=head_conv and dataclasses.replace(head_conv, channels=head_conv.channels // rules.divisor),
        pre_logits=table.pre_logits and table.pre_logits // rules.divisor,
    )
