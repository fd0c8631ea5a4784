"""Words of the command line: a key that holds text takes it as it is written, such as ``output=2024_06_01``.

Hydra reads a value by a grammar of its own, in which 2024_06_01 is the number 20240601 and ``#1`` an error. Text that
the grammar would misread is put into quotes before Hydra sees it. Quoted values, ``null``, interpolations (``${...}``)
and sweeps mean what they mean to Hydra.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import get_origin

from omegaconf import OmegaConf

from ctrlrec.config.schema import leaves
from ctrlrec.errors import CtrlRecError

TEXT = {key for key, entry in leaves() if entry.type in (str, str | None)}
_LISTS = {key for key, entry in leaves() if get_origin(entry.type) is list}
_PLAIN = re.compile(r"(?!(?:true|false|inf|nan)$)(?:\.{0,2}/|[a-z])[\w/.:-]*", re.IGNORECASE | re.ASCII)
_QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)
_FUNCTION = re.compile(r"\w+\(.*\)", re.DOTALL)  # choice(a,b), which sweeps


def literal(words: Sequence[str], sweeps: bool = False) -> list[str]:
    """Return the words, with quotes around text that Hydra would read as something else.

    Args:
        words: of the command line.
        sweeps: whether the command is a multirun, in which commas separate values.
    """
    return [_literal(word, sweeps) for word in words]


def _literal(word: str, sweeps: bool) -> str:
    key, equals, value = word.partition("=")
    if key.lstrip("+") not in TEXT or not value or value.lower() == "null" or _QUOTED.fullmatch(value):
        return word
    if "," in value and (not sweeps or re.search(r"""[\[\](){}'"]""", value)):
        return word
    if sweeps and _FUNCTION.fullmatch(value):
        return word
    parts = value.split(",") if sweeps else [value]
    return key + equals + ",".join(part if _PLAIN.fullmatch(part) else quoted(part) for part in parts)


def quoted(text: str) -> str:
    """Return ``text`` in quotes as Hydra reads them: a backslash counts as one only before a quote."""
    inner = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{inner}'"


def sweep_advice(key: str, value: object) -> str:
    """Return how to ask for a run of each value, if ``value`` looks like several; else nothing."""
    values = [str(one) for one in value] if isinstance(value, list | tuple) else str(value).strip("[]()").split(",")
    if len(values) < 2:
        return ""
    return f"; for a run of each value: python -m ctrlrec -m {key}={','.join(one.strip() for one in values)}"


def explain_several(word: str) -> str:
    """Return what to type in the place of a word with several values in a command without ``-m``."""
    key, _, value = word.partition("=")
    advice = f"{word}: several values need -m, for a run of each: python -m ctrlrec -m {shlex.quote(word)}"
    if key in _LISTS:
        return f"{advice}; for a list: {key}=[{value}]"
    return f"{advice}; for one text with commas: '{key}=\"{value}\"'" if key in TEXT else advice


def home(path: str) -> str:
    """Return a path with ``~`` and ``~name`` replaced by the home folder.

    Raises:
        CtrlRecError: if there is no such home folder.
    """
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise CtrlRecError(
            f"{path}: {Path(path).parts[0]} is not a home folder here; write the whole path, or ./{path} for a folder "
            "of that name"
        ) from None


def _home(path: object) -> str:
    if path in (None, ""):
        raise CtrlRecError("a folder is expected, such as output=runs")
    return home(str(path))


OmegaConf.register_new_resolver(
    "home", _home, replace=True
)  # in conf/config.yaml: Hydra makes folders before any check
