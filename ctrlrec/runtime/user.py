"""Where the user's files may lie: the cache, and folders of libraries for a user without a name or a home."""

import getpass
import os
from pathlib import Path

from ctrlrec.errors import CtrlRecError

# Folders that libraries would make in the home folder, by the variable that names another place.
_FOLDERS = {
    "MPLCONFIGDIR": "matplotlib",
    "WANDB_CACHE_DIR": "wandb",
    "WANDB_CONFIG_DIR": "wandb",
    "WANDB_DATA_DIR": "wandb",
    "TRITON_CACHE_DIR": "triton",
}


def cache_folder(cache: str) -> Path:
    """Return the cache folder, created if missing.

    Args:
        cache: as the configuration says; ``~`` is the home folder.

    Raises:
        CtrlRecError: if there is no home folder, or the cache folder cannot be created or written to.
    """
    advice = "set cache= or the variable CTRLREC_CACHE to a folder that can be written to"
    try:
        folder = Path(cache).expanduser()
    except RuntimeError:
        raise CtrlRecError(f"cache={cache}: this user has no home folder; {advice}") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CtrlRecError(f"cache={cache}: cannot be created ({error.strerror}: {error.filename}); {advice}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CtrlRecError(f"cache={cache}: cannot be written to; {advice}")
    return folder


def settle(cache: str) -> None:
    """Give libraries a name and folders for a user who has no name, or no home folder that can be written to.

    Containers run as a number that no list of users holds. What the environment says already stays as it is.

    Args:
        cache: the configuration's; folders are made in it only if the home folder cannot hold them.

    Raises:
        CtrlRecError: if the cache folder is needed and cannot be made.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["USER"] = f"uid{os.getuid()}" if hasattr(os, "getuid") else "user"
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    if home is not None and os.access(home, os.W_OK | os.X_OK):
        return
    folder = cache_folder(cache).absolute()
    if home is None:
        os.environ["HOME"] = str(folder / "home")
    if not (home and (home / ".cache" / "huggingface").is_dir()):  # a read-only home may hold models to read
        os.environ.setdefault("HF_HOME", str(folder / "huggingface"))
    for variable, name in _FOLDERS.items():
        os.environ.setdefault(variable, str(folder / name))
