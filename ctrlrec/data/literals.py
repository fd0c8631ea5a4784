r"""Python literals, one a line, and lists that a field of a table spells as text.

Files of literals (``{u'id': u'10', ...}``) are Steam's, and Amazon's metadata of 2014. They are never evaluated. One
regular expression spells out the grammar of a record: strings, numbers, True, False, None, and lists and dictionaries
of them two deep. A whole block is matched in one call, and every quantifier is possessive, so a hostile line costs
linear time. What it matched is cut out by the grammar itself: text inside a review that looks like a field cannot be
taken for one. Only what the grammar does not cover goes to ``ast.literal_eval``, which builds constants and nothing
else, and only if it is short and shallow enough for the parser.

Lists as text have a grammar of their own (:func:`read_list`), because every program writes them in another way.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.missing import is_missing
from ctrlrec.data.objects import Schema, coerce, read_objects, to_column

_STRING = r"""u?(?:'[^'\\\n\r\0]*+(?:\\[^\n\r\0][^'\\\n\r\0]*+)*+'|"[^"\\\n\r\0]*+(?:\\[^\n\r\0][^"\\\n\r\0]*+)*+")"""
_NUMBER = r"-?[0-9]++(?:\.[0-9]*+)?(?:[eE][+-]?[0-9]++)?"
_SCALAR = rf"(?:{_STRING}|{_NUMBER}|True|False|None)"
_MAX_LITERAL = 1 << 20  # characters
# A run of twenty openings or signs is an attack on the parser, not a record.
_NESTED = re.compile(r"[\[({~+-](?:\s*+[\[({~+-]){20}")


def _nested(value: str) -> str:
    listed = rf"\[(?:{value}(?:, ?|(?=\])))*+\]"
    mapped = rf"\{{(?:{_STRING}: ?{value}(?:, ?|(?=\}})))*+\}}"
    return rf"(?:{_SCALAR}|{listed}|{mapped})"


_VALUE = _nested(_nested(_SCALAR))


def _record(fields: Iterable[str]) -> re.Pattern[str]:
    """Return the grammar of a dictionary, with a group for the value of every field; the last of equal keys counts."""
    wanted = "|".join(rf"u?(?:'{name}'|\"{name}\"): ?({_VALUE})" for name in fields)
    return re.compile(rf"^\{{(?:(?:{wanted}|{_STRING}: ?{_VALUE})(?:, ?|(?=\}})))*+\}}\r?$", re.MULTILINE)


def read_literals(file: SourceFile, schema: Schema, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Read some fields of a file of Python literals, and the ``line`` of every row; see :func:`read_objects`."""
    record = _record(schema)

    def block(text: str) -> pl.DataFrame | None:
        found = record.findall(text)
        columns = zip(*found, strict=True) if len(schema) > 1 else [found]
        try:
            return pl.DataFrame(
                [
                    _column(name, list(tokens), kind)
                    for (name, kind), tokens in zip(schema.items(), columns, strict=True)
                ]
            )
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # no record at all, or an invalid escape
            return None

    return read_objects(file, schema, ledger, "a Python literal", block, parse_literal)


def _column(name: str, tokens: list[str], kind: Any) -> pl.Series:
    if kind == pl.String:
        written = pl.Series(name, tokens, dtype=pl.String)
        text = written.str.strip_prefix("u")
        plain = text.str.head(1).is_in(["'", '"']) & ~written.str.contains("\\", literal=True)
        if plain.all():
            return text.str.slice(1).str.head(-1)
    return to_column(name, [coerce(ast.literal_eval(token), kind) if token else None for token in tokens], kind)


def parse_literal(line: str) -> dict[str, Any]:
    """Return the dictionary a line spells; it is never evaluated.

    Raises:
        ValueError: for anything that is not the literal of a dictionary: a call, a name, a broken or monstrous line.
    """
    text = line.strip()
    if len(text) > _MAX_LITERAL or _NESTED.search(text):
        raise ValueError("too long or nested too deep")
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(value, dict):
        raise ValueError("not a dictionary")
    return value


EXPECTED_LIST = (
    "names with | between, or one list of names such as ['Drama', 'War'], ['Drama' 'War'], [Drama, War] or {Drama,War}"
)
_QUOTED = r"""[uUbB]?(?:'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+")"""
# A name without quotes. An apostrophe in it stands after a letter: any other is half of a pair of quotes.
_BARE = r"""(?![uUbB]?['"])[^\s,'"\[\]{}](?:[^,'"\[\]{}]|(?<=\w)')*+"""
_UNQUOTED = rf"(?:{_NUMBER}|(?i:none|null|nan|nat|<na>|true|false))(?!\S)"  # what numpy writes without quotes
_SPACED = re.compile(rf"(?:\s*+(?:{_QUOTED}(?=\s|$)|{_UNQUOTED}))++\s*+", re.DOTALL)
_COMMAS = re.compile(rf"\s*+(?:{_QUOTED}|{_BARE}|)\s*+(?:,\s*+(?:{_QUOTED}|{_BARE}|)\s*+)*+", re.DOTALL)
_SPACED_NAME = re.compile(rf"{_QUOTED}|\S++", re.DOTALL)
_NAME = re.compile(rf"{_QUOTED}|{_BARE}", re.DOTALL)
_CLOSING = {"[": "]", "{": "}", "(": ")"}
# How Python and numpy show a set or an array: set(), frozenset({'a'}), array(['a'], dtype=object).
_CALL = re.compile(
    r"(?:set|frozenset|list|tuple|array)\(\s*+([\[{(].*[\]})]|)\s*+(?:,\s*+dtype=[^\[\](){}]*+)?\)", re.DOTALL
)
_OPENED = re.compile(r"""[\[({]\s*+[uUbB]?['"]|\(\s*+\)$|(?:set|frozenset|list|tuple|array)\((?:\s*+[\[{(]|\)$)""")
_NEXT = re.compile(r"[\]}]\s*+\|")  # the first of several names, in brackets of its own: [REC]|Drama
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "\n": ""}


def is_list(text: str) -> bool:
    """Return whether to read a text as a list: it has brackets around it, or one of them, or begins like strings."""
    text = text.strip()
    if _OPENED.match(text):
        return True
    for opening, closing in ("[]", "{}"):
        begins, ends = text.startswith(opening), text.endswith(closing)
        if (begins and ends and not _NEXT.search(text)) or (begins and closing not in text):
            return True
        if ends and opening not in text:
            return True
    return False


def read_list(text: str) -> list[str | None]:
    r"""Return the names in a list as text.

    - JSON, Python (lists, tuples, sets) and ClickHouse: quoted names with commas between; ``\/`` is a slash.
    - numpy: quoted names with white space between. Nothing is joined, as Python's own grammar would.
    - DuckDB, Spark and, in braces, Postgres: commas between; a name has quotes only if it needs them.

    Names that are missing (None, null, nan, nothing between two commas) and truth values are None.

    Raises:
        ValueError: for anything else: a list without its end, lists or dictionaries inside, two names without a comma.
    """
    text = text.strip()
    if found := _CALL.fullmatch(text):
        text = found[1] or "[]"
    opening, body = text[:1], text[1:-1]
    if len(text) < 2 or text[-1] != _CLOSING.get(opening):
        raise ValueError("a list that is not closed")
    if _SPACED.fullmatch(body):
        return [_named(name) for name in _SPACED_NAME.findall(body)]
    if not _COMMAS.fullmatch(body):
        raise ValueError("not a list of names")
    names = _NAME.findall(body)
    if opening == "{" and any(re.search(r":\s|=", name) for name in names if not _is_quoted(name)):
        raise ValueError("a dictionary")
    return [_named(name) for name in names]


def _is_quoted(name: str) -> bool:
    return name.lstrip("uUbB")[:1] in ("'", '"')


def _named(name: str) -> str | None:
    """Return the name that an element of a list spells; None if it is missing."""
    if _is_quoted(name):
        mark = name[-1]
        text = _ESCAPE.sub(_unescaped, name[name.index(mark) + 1 : -1])
        return str(coerce(text.encode("latin-1").decode() if name[0] in "bB" else text, pl.String))
    name = name.strip()
    if is_missing(name) or name.lower() in ("true", "false"):
        return None
    number = re.fullmatch(_NUMBER, name) and not name.lstrip("-").isdigit()
    return coerce(float(name), pl.String) if number else name  # type: ignore[no-any-return]


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if code:
        return chr(int(code, 16))
    sign = found[4]
    if sign.isalnum() and sign not in _CONTROLS:
        raise ValueError(f"no escape: {found[0]}")
    return _CONTROLS.get(sign, sign)
