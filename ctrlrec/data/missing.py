r"""Words that programs write for a missing value: nan, None, NULL, \N, N/A, a dash."""

import re

import polars as pl

# Words that pandas.read_csv takes for missing, MySQL's \N, Oracle's (null) and NaT, whatever their case.
_WORDS = (
    "", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na", "nan",
    "nat", "none", "null", "(null)", "\\n",
)  # fmt: skip
_DASHES = "^[-\u2010-\u2015\u2212]+$"
_INVISIBLE = "[\u200b-\u200f\u2060\ufeff]"
_AROUND = " \t\u00a0'\"\u2018\u2019\u201c\u201d"  # white space and quotes around a word

_INVISIBLE_SIGN, _ONLY_DASHES = re.compile(_INVISIBLE), re.compile(_DASHES)


def is_missing(text: str) -> bool:
    """Return whether a text stands for no value."""
    bare = _INVISIBLE_SIGN.sub("", text).strip().strip(_AROUND)
    return bare.lower() in _WORDS or _ONLY_DASHES.search(bare) is not None


def missing(text: pl.Expr) -> pl.Expr:
    """Return whether each text of a column is null or stands for no value."""
    bare = text.str.replace_all(_INVISIBLE, "").str.strip_chars().str.strip_chars(_AROUND)
    return text.is_null() | bare.str.to_lowercase().is_in(_WORDS) | bare.str.contains(_DASHES)
