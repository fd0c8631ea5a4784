"""The code that a result rests on, and whether it has changed since.

A stage depends on the modules that its own module imports, those that they import, and so on, with the data
files beside them. Of a folder of choices (:mod:`ctrlrec.config.choices`) that a key of the configuration chooses from
(:data:`ctrlrec.config.checks.MODULES`), only what is chosen counts, so that a further choice changes no result.
Modules of plug-ins count like those of the package.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf

from ctrlrec.config.checks import MODULES
from ctrlrec.config.choices import plugin_folders
from ctrlrec.config.schema import Config

_HOME = Path(__file__).resolve().parents[1]
# What decides no number: the configuration (its values are settings of a result), checks, the order of stages, reports.
_SILENT = (
    *("config", "errors", "lm.checks", "reporting", "runtime"),
    *("pipeline.run", "pipeline.settings", "pipeline.stage"),
)
_DECIDING = ("runtime.hardware", "runtime.processes", "runtime.trainer")  # of the room runtime
_DATA = (".yaml", ".jsonl", ".json", ".txt", ".csv")
_IMPORT = re.compile(r"^\s*(?:from\s+ctrlrec([\w.]*)\s+import\s+(\([^)]*\)|[^\n#]*)|import\s+ctrlrec([\w.]*))", re.M)

_CHOICES = re.compile(r"= Choices(?:\[[^\]]*\])?\(\s*\"([\w.]+)\"")

Digests = dict[str, dict[str, str]]


def remember() -> None:
    """Read all code now, before the tree can change while a run lasts."""
    for path in (*_HOME.rglob("*.py"), *(path for home in plugin_folders() for path in home.rglob("*.py"))):
        source(path)


@functools.cache
def source(path: Path) -> bytes:
    """Return a file as it was when this process first asked for it."""
    return path.read_bytes()


def choices(config: Config) -> dict[str, list[str]]:
    """Return the modules that a configuration chooses, by folder of choices."""
    found: dict[str, list[str]] = {}
    for key, folder in MODULES.items():
        value = OmegaConf.select(config, key)  # type: ignore[arg-type]
        names = list(value) if isinstance(value, ListConfig) else [value]
        found.setdefault(folder.package, []).extend(names)
    return found


def digests(module: str, chosen: Mapping[str, Sequence[str]]) -> Digests:
    """Return two digests of the code that a module rests on, by room.

    Args:
        module: such as ``pipeline.rl``.
        chosen: of :func:`choices`.

    Returns:
        For each room ``files``, of the files as they are, and ``code``, of what is left without comments and
        docstrings.
    """
    rooms: dict[str, dict[str, Path]] = {}
    for name, path in rests_on(module, chosen).items():
        rooms.setdefault(name.partition("/")[0], {})[name] = path
    return {room: _digests(tuple(sorted(files.items()))) for room, files in sorted(rooms.items())}


def changed(recorded: Mapping[str, Any], now: Digests) -> list[str]:
    """Return the rooms whose code is not what is recorded, comments and docstrings aside."""

    def same(room: str) -> bool:
        pairs = ((found.get(room, {}).get(kind) for found in (recorded, now)) for kind in ("files", "code"))
        return any(before is not None and before == after for before, after in pairs)

    return [room for room in sorted(recorded.keys() | now.keys()) if not same(room)]


def rests_on(module: str, chosen: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """Return the files that a module rests on, by their place in the package (see the top of this module)."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or _is_silent(name):
            continue
        place = name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py")
        if place in found:
            continue
        found[place] = path
        for data in path.parent.iterdir():
            if data.suffix in _DATA:
                found[f"{place.rpartition('/')[0]}/{data.name}"] = data
        text = source(path).decode()
        waiting += _imported(text)
        for folder in _CHOICES.findall(text):
            names = chosen.get(folder)
            waiting += [f"{folder}.{name}" for name in (_modules(folder) if names is None else names)]
    return found


def _is_silent(name: str) -> bool:
    return name not in _DECIDING and any(name == part or name.startswith(f"{part}.") for part in _SILENT)


def _file(name: str) -> Path | None:
    """Return the file of a module of the package or of a plug-in; None if there is none."""
    parts = Path(*name.split("."))
    for home in (_HOME, *plugin_folders()):
        for path in (home / parts.with_suffix(".py"), home / parts / "__init__.py"):
            if path.is_file():
                return path
    return None


def _modules(folder: str) -> list[str]:
    """Return the names of all modules in a folder of the package and of plug-ins."""
    homes = (home.joinpath(*folder.split(".")) for home in (_HOME, *plugin_folders()))
    return [path.stem for home in homes for path in home.glob("[a-z]*.py")]


def _imported(text: str) -> Iterable[str]:
    """Yield the modules of the package that a source text imports, names of theirs among them."""
    for parent, names, plain in _IMPORT.findall(text):
        name = (parent or plain).removeprefix(".")
        if name:
            yield name
        for word in re.findall(r"(\w+)(?:\s+as\s+\w+)?", names):
            yield f"{name}.{word}" if name else word


@functools.cache
def _digests(files: tuple[tuple[str, Path], ...]) -> dict[str, str]:
    plain, bare = hashlib.sha256(), hashlib.sha256()
    for name, path in files:
        data = source(path)
        plain.update(f"{name}\0{len(data)}\0".encode() + data)
        bare.update(f"{name}\0".encode() + (_bare(path) if path.suffix == ".py" else data))
    return {"files": plain.hexdigest()[:12], "code": bare.hexdigest()[:12]}


@functools.cache
def _bare(path: Path) -> bytes:
    """Return the syntax of a module without comments, places in the file and docstrings."""
    tree = ast.parse(source(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *rest]:
                    node.body = rest
    return ast.dump(tree).encode()
