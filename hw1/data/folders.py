"""The folders that `data:` of a recipe names. No torch, no numpy: a mistake in them is said before those are imported."""

from pathlib import Path

from hw1.data.list_files import require_folder
from hw1.errors import UserError
from hw1.utils.files import cache_folder
from hw1.utils.text import printable

WAYS_OUT = "data.cache_dir=FOLDER writes elsewhere, data.cache=none does without"


def require_root(root: str | None) -> Path:
    """Return the folder that `data.root` names.

    Raises:
        UserError: It is not set, or not there.
    """
    if root is None:
        raise UserError("data.root: not set; add data.root=FOLDER (with train/ and val/, or class folders alone)")
    path = Path(root).expanduser()
    require_folder(path, "data.root: ")
    return path


def make_cache_folder(cache_dir: str | None) -> Path:
    """Return the folder of the disk cache, made if it is not there.

    Args:
        cache_dir: `data.cache_dir`; None is the user's cache folder.

    Raises:
        UserError: It cannot be made.
    """
    folder = Path(cache_dir).expanduser() if cache_dir else cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable_cache(folder, error) from None
    return folder


def unwritable_cache(folder: Path, error: OSError) -> UserError:
    """Return what is said of a cache folder that cannot be written to."""
    return UserError(f"data.cache_dir: {printable(folder)}: cannot be written to: {error.strerror}; {WAYS_OUT}")
