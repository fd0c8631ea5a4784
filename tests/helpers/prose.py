"""Text that people read: comments, docstrings and messages of Python files; whole lines of all other files."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is read; code in backticks is left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _of_python(text)
    elif path.suffix == ".md":
        yield from enumerate(_CODE.sub(_blank, text).splitlines(), 1)
    else:
        for number, line in enumerate(text.splitlines(), 1):
            yield number, line.partition("#")[2]


def _of_python(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], _CODE.sub("", token.string)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for shift, line in enumerate(_CODE.sub(_blank, node.value.replace("``", "`")).splitlines()):
                yield node.lineno + shift, line


def _blank(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")
