"""`weights`: the published weights that `--weights` takes by name."""

import argparse
import dataclasses
import json

from mobilenets_jax.errors import UserError
from mobilenets_jax.tables import aligned
from mobilenets_jax.weights.cards import CARDS, MEASURED_ON, WeightCard

HEADER = ('weights', 'network', 'width', 'size', 'crop', 'top-1', 'top-5', 'mIoU', 'AP', 'measured', 'licence')
TEXT_COLUMNS = (0, 1, len(HEADER) - 1)  # flush left; the others are numbers


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('weights', help='list the published weights that --weights takes by name')
    parser.add_argument('words', nargs='*', metavar='WORD', help='only names and networks that contain all words')
    parser.add_argument('--json', action='store_true', help='print every field of the cards, a list of objects')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the cards that the parsed arguments ask for."""
    cards = [card for card in CARDS.values() if all(word in f'{card.name} {card.model}' for word in arguments.words)]
    if not cards:
        raise UserError(f'no weights have {" ".join(arguments.words)!r} in their name or network.')
    if arguments.json:
        print(json.dumps([dataclasses.asdict(card) | {'bn_epsilon': card.bn_epsilon} for card in cards], indent=2))
    else:
        print(text_table(cards))


def text_table(cards: list[WeightCard]) -> str:
    """Aligned columns; accuracies in percent, as published, those of classifiers on ImageNet's validation set."""
    lines = aligned([HEADER, *map(_cells, cards)], TEXT_COLUMNS)
    return '\n'.join([*lines, '', f'top-1, top-5, mIoU, AP: as published. measured: by this project on {MEASURED_ON}.'])


def _cells(card: WeightCard) -> list[str]:
    def percent(value: float | None) -> str:
        return '-' if value is None else f'{value:.1f}'

    preprocessing = card.preprocessing
    resized = round(preprocessing.image_size / preprocessing.crop_fraction)
    central = preprocessing.crop == 'central_fraction'
    return [
        card.name,
        card.model,
        f'{card.width_multiplier:g}',
        str(preprocessing.image_size),
        f'{preprocessing.crop_fraction:.1%}' if central else f'of {resized}',
        percent(card.top1),
        percent(card.top5),
        percent(card.miou),
        percent(card.ap),
        ' / '.join(map(percent, card.measured)) if card.measured else '-',
        card.licence or '',
    ]
