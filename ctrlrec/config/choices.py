"""Choices that are modules in a folder: a file put there is a choice, and nothing else names it.

A plug-in is a folder laid out like this package: ``PLUGIN/teacher/models/caser.py`` beside
``PLUGIN/conf/teacher/caser.yaml``. The environment variable ``CTRLREC_PLUGINS`` lists such folders, joined as in
``PATH``. A YAML file only ever names a choice and never code, so that a shared configuration runs nothing of its own.
"""

import difflib
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ctrlrec.errors import CtrlRecError

PLUGINS = "CTRLREC_PLUGINS"
_HOME = Path(__file__).parents[1]

T = TypeVar("T")


def plugin_folders() -> list[Path]:
    """Return the folders of ``CTRLREC_PLUGINS``.

    Raises:
        CtrlRecError: for a folder that does not exist.
    """
    folders = [Path(part).expanduser() for part in os.environ.get(PLUGINS, "").split(os.pathsep) if part]
    for folder in folders:
        if not folder.is_dir():
            raise CtrlRecError(f"{PLUGINS}: {folder} is not a folder; list folders joined by '{os.pathsep}'")
    return folders


@functools.cache
def _files(package: str, plugins: str) -> dict[str, Path]:
    """Return the files of a folder; ``plugins`` is the variable's value, so that a change of it is seen."""
    found: dict[str, Path] = {}
    for home in (_HOME, *plugin_folders()):
        for path in sorted(home.joinpath(*package.split(".")).glob("[a-z]*.py")):
            if path.stem == "base":
                continue
            if path.stem in found:
                raise CtrlRecError(f"{path}: {found[path.stem]} has the same name; rename one of them")
            found[path.stem] = path
    return found


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return a sentence part naming the valid choice that looks most like ``word``, or all of a few."""
    names = list(choices)
    tails = {name.rsplit(".", 1)[-1]: name for name in names}
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    close = close or [
        tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], list(tails), n=1, cutoff=0.6)
    ]
    if close:
        return f"did you mean '{close[0]}'?"
    return f"valid: {', '.join(names)}" if len(names) <= 12 else "see --cfg job for every key"


class Choices(Mapping[str, T]):
    """The modules of a folder by name, each read for one constant.

    Names are found without an import, so that a typo costs no time; a module is imported when its value is asked for.

    Args:
        package: dotted folder below ``ctrlrec``, such as ``data.sources``.
        constant: what each module defines, such as ``SOURCE``.
    """

    def __init__(self, package: str, constant: str):
        self.package, self.constant = package, constant

    def files(self) -> dict[str, Path]:
        """Return the file of each choice, those of the package first.

        Raises:
            CtrlRecError: if two files have one name.
        """
        return _files(self.package, os.environ.get(PLUGINS, ""))

    def added(self) -> set[str]:
        """Return the names of choices that plug-ins add."""
        return {name for name, path in self.files().items() if not path.is_relative_to(_HOME)}

    def __getitem__(self, name: str) -> T:
        module = f"ctrlrec.{self.package}.{name}"
        path = self.files()[name]
        loaded: Any = sys.modules.get(module)
        if loaded is None and path.is_relative_to(_HOME):
            loaded = importlib.import_module(module)
        elif loaded is None:
            spec = importlib.util.spec_from_file_location(module, path)
            assert spec is not None and spec.loader is not None
            loaded = importlib.util.module_from_spec(spec)
            sys.modules[module] = loaded
            try:
                spec.loader.exec_module(loaded)
            except BaseException:
                del sys.modules[module]
                raise
        try:
            return getattr(loaded, self.constant)
        except AttributeError:
            raise CtrlRecError(f"{path}: defines no {self.constant}; every module in {self.package} does") from None

    def __contains__(self, name: object) -> bool:
        return name in self.files()

    def __iter__(self) -> Iterator[str]:
        return iter(self.files())

    def __len__(self) -> int:
        return len(self.files())
