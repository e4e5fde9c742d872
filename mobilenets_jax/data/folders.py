"""How a folder of images is laid out: DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg; labels count the sorted classes."""

from mobilenets_jax.data.folder_index import join, list_files, list_folders
from mobilenets_jax.errors import UserError, check

TRAIN_SPLIT = 'train'
EVAL_SPLITS = ('val', 'validation', 'test')  # The first one that is there is the default.


def find_splits(directory: str, eval_split: str) -> tuple[str | None, str]:
    """The folders of the training split, None if there is none, and of the evaluation split."""
    check(bool(directory), 'data.dir', directory, 'must name the folder of images')
    folders = list_folders(directory)
    train_directory = join(directory, TRAIN_SPLIT) if TRAIN_SPLIT in folders else None
    if eval_split:
        check(eval_split in folders, 'data.eval_split', eval_split, f'is not a folder of {directory}')
        return train_directory, join(directory, eval_split)
    for name in EVAL_SPLITS:
        if name in folders:
            return train_directory, join(directory, name)
    if train_directory:
        raise UserError(f'data.dir={directory!r} has no evaluation split. Known: {", ".join(EVAL_SPLITS)}.')
    return None, directory


def find_classes(directory: str, labelled_directory: str, eval_directory: str) -> list[str]:
    """The classes of `labelled_directory` in the order of their labels; `eval_directory` may have no others."""
    class_names = list_folders(labelled_directory)
    check(len(class_names) > 1, 'data.dir', directory, f'must have two classes or more, but has {len(class_names)}')
    unknown = sorted(set(list_folders(eval_directory)) - set(class_names))
    if unknown:
        raise UserError(
            f'data.dir={directory!r}: {eval_directory} has class {unknown[0]!r}, which {TRAIN_SPLIT} lacks.'
        )
    return class_names


def list_images(directory: str, class_names: list[str]) -> tuple[list[str], list[int]]:
    """Paths and labels of the images, sorted by class and name; a class may be missing but not all images."""
    files = list_files(directory, class_names)
    check(bool(files), 'data.dir', directory, 'has no images in folders of the known classes')
    paths = [join(join(directory, name), file) for name, names in files.items() for file in names]
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = [label_of[name] for name, names in files.items() for _ in names]
    return paths, labels
