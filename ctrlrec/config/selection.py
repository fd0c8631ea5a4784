"""What is selected is what runs: no file overrides a file that was chosen by name, budgets and variants excepted.

Hydra composes files in the order of ``conf/config.yaml``, and a later file wins. Three groups come last because that is
what they are for: a budget sets the keys that its ``sets`` lists, a variant and an experiment set what their rows need.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from ctrlrec.config.files import conf_directory, plugin_conf_folders
from ctrlrec.config.words import sweep_advice
from ctrlrec.errors import CtrlRecError

_LAST = ("variant", "experiment")  # may write anywhere


class Written(NamedTuple):
    """The keys that one composed file writes.

    Attributes:
        name: path below ``conf/`` without its suffix, such as ``rl/tuned/llama_mini``.
        selected: whether the file was chosen by name, not just built on by one that was.
        keys: dotted keys with the package of the file in front.
    """

    name: str
    selected: bool
    keys: dict[str, Any]

    @property
    def group(self) -> str:
        """The group that the file belongs to."""
        return self.name.partition("/")[0]

    @property
    def choice(self) -> str:
        """The name of the file in its group."""
        return self.name.partition("/")[2]


def written(*overrides: str) -> list[Written]:
    """Return what every composed file writes, in the order of composition; a later one wins.

    Args:
        overrides: words of the command line.
    """
    folders = (conf_directory(), *plugin_conf_folders())
    files = [path for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    chosen = tuple(word for word in overrides if "." not in word.partition("=")[0])  # a dotted key chooses no file
    return list(_written(chosen, tuple((path, path.stat().st_mtime_ns) for path in files)))


@functools.lru_cache(maxsize=256)
def _written(chosen: tuple[str, ...], files: tuple[tuple[Path, int], ...]) -> tuple[Written, ...]:
    """See :func:`written`; ``files`` with their times, so that an edited file is read again."""
    with _loader() as loader:
        defaults = loader.compute_defaults_list("config", list(chosen), RunMode.RUN).defaults
    read = [
        Written(name, file.parent == "config", _keys(name, str(file.package or "")))
        for file in defaults
        if (name := str(file.config_path)) != "config" and not name.startswith("hydra/")
    ]
    return tuple(file for file in read if file.keys)


def check_selection(overrides: Sequence[str]) -> None:
    """Refuse a selection in which one file overrides another against the rule of this module.

    Args:
        overrides: words of the command line; a key given there is settled.

    Raises:
        CtrlRecError: naming the key and both files, or the budget and the key that its ``sets`` should list.
    """
    given = tuple(f"{key}." for word in overrides if "." in (key := word.lstrip("+~").partition("=")[0]))
    files = written(*overrides)
    for group in {file.group for file in files} - {"experiment"}:
        chosen = [file.choice for file in files if file.selected and file.group == group]
        if len(chosen) > 1:
            raise CtrlRecError(f"{group}={chosen}: only one file of a group is in force{sweep_advice(group, chosen)}")
    budgeted = _budgeted([file for file in files if file.group == "budget"])
    for place, file in enumerate(files):
        for later in files[place + 1 :] if file.selected else ():
            if later.group in (file.group, *_LAST):
                continue
            for key in file.keys.keys() & later.keys.keys():
                if not (later.group == "budget" and key in budgeted) and not f"{key}.".startswith(given):
                    raise CtrlRecError(
                        f"{file.group}={file.choice}: its {key} is overridden by conf/{later.name}.yaml; "
                        f"{_advice(file, later)}, or give {key} on the command line"
                    )


def _budgeted(files: Sequence[Written]) -> set[str]:
    """Return the keys of other groups that a budget sets.

    Raises:
        CtrlRecError: if its ``sets`` does not list exactly these.
    """
    keys = {key for file in files for key in file.keys if not key.startswith("budget.")}
    listed: list[str] = next((file.keys["budget.sets"] for file in reversed(files) if "budget.sets" in file.keys), [])
    for key in sorted(keys ^ set(listed)):
        said = f"{key} is set and not listed" if key in keys else f"{key} is listed and not set"
        raise CtrlRecError(f"conf/{files[-1].name}.yaml: budget.sets must list exactly what the budget sets; {said}")
    return keys


def _advice(file: Written, later: Written) -> str:
    if later.group == "model":
        return f"move it to conf/{file.group}/tuned/{later.choice}.yaml, over which {file.group}={file.choice} wins"
    return "remove it from one of the two files"


def _keys(name: str, package: str) -> dict[str, Any]:
    """Return the dotted keys and the values of a file; nothing for a file outside ``conf/`` and the plug-ins."""
    for folder in (conf_directory(), *plugin_conf_folders()):
        if (path := folder / f"{name}.yaml").is_file():
            content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
            content = {key: value for key, value in (content or {}).items() if key not in ("defaults", "hydra")}
            return dict(_flat(content, f"{package}." if package else ""))
    return {}


def _flat(node: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@contextmanager
def _loader() -> Iterator[ConfigLoader]:
    """Yield Hydra's loader: that of the running command, or a new one."""
    if GlobalHydra.instance().is_initialized():
        yield GlobalHydra.instance().config_loader()
    else:
        with initialize_config_dir(str(conf_directory()), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
