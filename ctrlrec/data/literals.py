r"""Files with one Python literal a line (``{u'id': u'10', ...}``): Steam's, and Amazon's metadata of 2014.

They are never evaluated. One regular expression spells out the grammar of a record: strings, numbers, True, False,
None, and lists and dictionaries of them two deep. A whole block is matched in one call, and every quantifier is
possessive, so a hostile line costs linear time. What it matched is cut out by the grammar itself: text inside a review
that looks like a field cannot be taken for one. Only what the grammar does not cover goes to ``ast.literal_eval``,
which builds constants and nothing else, and only where it is short and shallow enough for the parser.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
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
    """A line that is a dictionary, with a group for the value of every field; the last of equal keys counts."""
    wanted = "|".join(rf"u?(?:'{name}'|\"{name}\"): ?({_VALUE})" for name in fields)
    return re.compile(rf"^\{{(?:(?:{wanted}|{_STRING}: ?{_VALUE})(?:, ?|(?=\}})))*+\}}\r?$", re.MULTILINE)


def read_literals(file: SourceFile, schema: Schema, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Some fields of a file of Python literals, and the ``line`` of every row; see :func:`read_objects`."""
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
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # no record at all, or an escape that is none
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
    """The dictionary a line spells.

    Raises:
        ValueError: for anything that is not the literal of a dictionary: a call, a name, a broken or monstrous line.
    """
    value = constant(line.strip())
    if not isinstance(value, dict):
        raise ValueError("not a dictionary")
    return value


def constant(text: str) -> Any:
    """The value a literal spells, never evaluated.

    Raises:
        ValueError: for anything else.
    """
    if len(text) > _MAX_LITERAL or _NESTED.search(text):
        raise ValueError("too long or nested too deep")
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from None
