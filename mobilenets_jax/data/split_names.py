"""What splits are called, as folders of images and as prepared records, in small letters or capitals."""

import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mobilenets_jax.errors import UserError, check, check_choice

TRAIN = ('train', 'training')
VALIDATION = ('val', 'valid', 'validation', 'dev')
TEST = ('test', 'testing')
NAMES = (*TRAIN, *VALIDATION, *TEST)


def is_split_name(name: str) -> bool:
    """Whether it is the name of a split."""
    return name.lower() in NAMES


def in_order(names: Sequence[str], where: str) -> list[str]:
    """Those of `names` that are splits: training, validation, test.

    Raises:
        UserError: two of them are spellings of one split.
    """
    found = (_only(names, spellings, where) for spellings in (TRAIN, VALIDATION, TEST))
    return [name for name in found if name is not None]


def choose(
    names: Sequence[str],
    known: Collection[str],
    where: str,
    train_split: str,
    eval_split: str,
    *,
    with_years: bool = False,
    may_join: bool = False,
) -> tuple[str | None, str | None]:
    """The names of the training and of the evaluation split, None for one that is not there.

    Args:
        names: what there is to choose from where nothing is asked for: the validation split before the test split.
        known: what may be asked for.
        where: the data set, for an error.
        train_split: the requested split; '': none.
        eval_split: the same.
        with_years: whether 'train2017' is a spelling of 'train'.
        may_join: whether one may train on several, as on 'train+val'; see `parts`.

    Raises:
        UserError: the requested split does not exist; or none is requested, and two names are spellings of one split.
    """
    if may_join and len(several := parts(train_split, known)) > 1:
        train = '+'.join(_asked_for('data.train_split', name, known) for name in several)
    elif train_split:
        train = _asked_for('data.train_split', train_split, known)
    else:
        train = _only(names, TRAIN, where, 'data.train_split', with_years)
    if eval_split:
        evaluation = _asked_for('data.eval_split', eval_split, known)
    else:
        validation = _only(names, VALIDATION, where, 'data.eval_split', with_years)
        evaluation = validation or _only(names, TEST, where, 'data.eval_split', with_years)
    return train, evaluation


def parts(split: str, known: Collection[str]) -> list[str]:
    """The names of what may be several splits, 'train+val'; a known split's own name may have a plus, too.

    Raises:
        UserError: one of them occurs twice.
    """
    names = [split] if split in known else split.split('+')
    check(len({*names}) == len(names), 'data.train_split', split, 'names a split twice')
    return names


def joined(split: str, found: Mapping[str, list[Any]]) -> list[Any]:
    """The images of a split; of several, such as 'train+val', one after the other.

    Args:
        split: its name.
        found: to the name of each part, its images, tuples that begin with the path.

    Raises:
        UserError: two parts have the same image.
    """
    images = [image for name in parts(split, found) for image in found[name]]
    path, count = Counter(image[0] for image in images).most_common(1)[0]
    check(count == 1 or split in found, 'data.train_split', split, f'has {path} {count} times')
    return images


def _asked_for(field: str, name: str, known: Collection[str]) -> str:
    """`name`, or the only one of `known` that is it in other letters."""
    similar = [other for other in known if other.lower() == name.lower()]
    if name not in known and len(similar) == 1:
        return similar[0]
    check_choice(field, name, known)
    return name


def _only(
    names: Sequence[str], spellings: Sequence[str], where: str, field: str = '', with_years: bool = False
) -> str | None:
    found = [name for name in names if name.lower().rstrip(string.digits if with_years else '') in spellings]
    if len(found) > 1:
        remedy = f'{field} says which one is meant' if field else 'only one may stay'
        raise UserError(f'{where} has {" and ".join(found)}, spellings of one split: {remedy}.')
    return found[0] if found else None
