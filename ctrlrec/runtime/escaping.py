"""Foreign text made inert where it is shown: one printable line, no mark-up."""

import re

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$#]|:(?=//))")


def inert(text: str) -> str:
    """Return one line of printable characters: no line breaks, terminal controls or changes of writing direction."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def markdown_text(text: str) -> str:
    """Put the text on one line and escape it, so that nothing of it is read as Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", inert(text))
