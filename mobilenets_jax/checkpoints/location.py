"""Where the checkpoints are that a person means."""

from etils import epath

from mobilenets_jax.checkpoints.manifest import MANIFEST_NAME

FOLDER = 'checkpoints'  # in a workdir


def locate(path: epath.PathLike) -> tuple[epath.Path, int | None]:
    """The folder of checkpoints, and the step where `path` means one.

    Args:
        path: a workdir, its folder of checkpoints, or that of one step; local, perhaps with ~, or gs://.

    Returns:
        The folder, and the step or None. What holds no checkpoint is taken for a workdir that has none yet: a folder
        of a data set may have folders with numbers for names, too.
    """
    path = epath.Path(path).expanduser()
    if path.name == FOLDER or not path.is_dir() or (path / FOLDER).is_dir():
        return path if path.name == FOLDER else path / FOLDER, None
    if _is_step(path):
        return path.parent, int(path.name)
    return (path if any(map(_is_step, path.iterdir())) else path / FOLDER), None


def _is_step(path: epath.Path) -> bool:
    return path.name.isdecimal() and ((path / MANIFEST_NAME).exists() or (path / 'meta').is_dir())
