"""Where the checkpoints are that a person means."""

from etils import epath

from mobilenets_jax.checkpoints.manifest import MANIFEST_NAME

FOLDER = 'checkpoints'  # in a workdir


def find_checkpoints(path: epath.PathLike) -> tuple[epath.Path, int | None] | None:
    """The folder of checkpoints that `path` means, and the step where it means one; None if it means neither.

    Args:
        path: a workdir, its folder of checkpoints, or that of one step; local, perhaps with ~, or gs://.
    """
    path = epath.Path(path).expanduser()
    if (path / FOLDER).is_dir():
        return path / FOLDER, None
    if not path.is_dir():
        return None
    if _is_step(path):
        return path.parent, int(path.name)
    # A folder of a data set may have folders with numbers for names, too.
    return (path, None) if path.name == FOLDER or any(map(_is_step, path.iterdir())) else None


def locate(path: epath.PathLike) -> tuple[epath.Path, int | None]:
    """As `find_checkpoints`; what holds none is taken for a workdir that has none yet."""
    found, path = find_checkpoints(path), epath.Path(path).expanduser()
    return found or (path if path.name == FOLDER else path / FOLDER, None)


def _is_step(path: epath.Path) -> bool:
    return path.name.isdecimal() and ((path / MANIFEST_NAME).exists() or (path / 'meta').is_dir())
