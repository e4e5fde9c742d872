"""A small space around MobileNetV3's rows, in which everything that masks can do is decided. No test in here."""

import dataclasses

from mobilenets_jax.models import get_spec
from mobilenets_jax.models.specs import BlockSpec, SqueezeExciteSpec
from mobilenets_jax.search.space import Choice, Space

# Stage, stride, activation; the second row of a stage can be left out. The third stage has no stride: in some networks
# it is as wide as the second one, and a residual would begin.
ROWS = ((1, 2, 'relu'), (1, 1, 'relu'), (2, 2, 'hard_swish'), (2, 1, 'hard_swish'), (3, 1, 'hard_swish'))
WIDTHS = ((8, 16), (16, 24), (16, 32))


def tiny_space() -> Space:
    choices = [Choice(name='stem/kernel', options=(3, 5)), Choice(name='stem/channels', options=(8, 16))]
    choices += [Choice(name=f'stage{number}/channels', options=widths) for number, widths in enumerate(WIDTHS, start=1)]
    for number, (_, stride, _) in enumerate(ROWS, start=1):
        name, needs = f'layer{number:02d}', None
        if number in (2, 4):
            assert stride == 1
            choices.append(Choice(name=f'{name}/skip', options=(False, True)))
            needs = (f'{name}/skip', (False,))
        for part, options in {'kernel': (3, 5, 7), 'expand': (2, 3, 4), 'se': (False, True)}.items():
            choices.append(Choice(name=f'{name}/{part}', options=options, needs=needs))
    choices.append(Choice(name='head_conv/channels', options=(24, 40)))
    choices.append(Choice(name='pre_logits/channels', options=(16, 24)))
    return Space(name='tiny', choices=tuple(choices), build=_build, kept=_kept)


def _kept(options):
    return [not options.get(f'layer{number:02d}/skip', False) for number in range(1, len(ROWS) + 1)]


def _build(options):
    width, blocks = options['stem/channels'], []
    for number, (there, (stage, stride, activation)) in enumerate(zip(_kept(options), ROWS, strict=True), start=1):
        if there:
            name, out_channels = f'layer{number:02d}', options[f'stage{stage}/channels']
            blocks.append(
                BlockSpec(
                    kernel_size=options[f'{name}/kernel'],
                    expanded=options[f'{name}/expand'] * width,
                    out_channels=out_channels,
                    squeeze_excite=SqueezeExciteSpec() if options[f'{name}/se'] else None,
                    activation=activation,
                    stride=stride,
                )
            )
            width = out_channels
    small = get_spec('mobilenet_v3_small')
    stem = dataclasses.replace(small.stem, channels=options['stem/channels'], kernel_size=options['stem/kernel'])
    head_conv = dataclasses.replace(small.head_conv, channels=options['head_conv/channels'])
    return dataclasses.replace(
        small, stem=stem, blocks=tuple(blocks), head_conv=head_conv, pre_logits=options['pre_logits/channels']
    )
