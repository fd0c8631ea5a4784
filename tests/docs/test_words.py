"""Words that make a reader stop do not come back, and docstrings of functions begin with a verb."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from prose import prose_of

ROOT = Path(__file__).resolve().parents[2]
ROOMS = sorted(path.name for path in (ROOT / "ctrlrec").iterdir() if (path / "__init__.py").exists())
PLACES = [*(f"ctrlrec/{room}" for room in ROOMS), "ctrlrec/*.py", "conf", "docs", "tests", "experiments", "models",
          "*.md", "pyproject.toml", "Makefile"]  # fmt: skip
READ = (".py", ".md", ".yaml", ".toml", "Makefile")
MADE = re.compile(r"experiments/movielens_|/results\.md$|/scale\.md$")  # written by code from numbers
# What is not written, and what is written instead.
BANNED = {
    r"\bgo(es|ing)? on\b": "resume, continue",
    r"\banew\b": "again; recompute",
    r"\blest\b": "so that ... not",
    r"\bbut for\b": "except for",
    r"(?<!there )\bis no (?!(longer|more|other|such|better|worse|need|reason to)\b)": "is not a",
    r"(?<!there )\b(is|are) (?-i:none)\b": "is missing; is not",
    r"CtrlRecError: where\b|\b(None|nothing|0|1) where\b": "if",
    r"\b(says?|warns?) so where\b": "if",
    r"\bwhoever\b": "a user who",
    r"\bat hand\b": "given, available",
    r"\b(file|setting|model|decoder|tokenizer|template|trainer|server|folder|page|column|log)s? "
    r"(knows?|hears?|tells?)\b": "has, supports, shows",
    r"\bto be had\b": "available",
    r"\bis gone on\b": "resumes",
}
# After, in time or place; these say what lies in the background of a number or falls short.
BEHIND = re.compile(r"\bbehind (an API|earlier|the (best|median|seeds)|its best|another|a (server|proxy|router))|"
                    r"(runs|seconds?|far|fell|left|lag\w*) behind|epochs behind", re.IGNORECASE)  # fmt: skip


def files(place: str) -> list[Path]:
    found = subprocess.run(
        ["git", "ls-files", f":(glob){place}" if "*" in place else place], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    return [ROOT / name for name in found if name.endswith(READ) and not MADE.search(name)]


def faults(path: Path) -> list[str]:
    found = []
    for number, line in prose_of(path):
        words = [better for pattern, better in BANNED.items() if re.search(pattern, line, re.IGNORECASE)]
        if re.search(r"\bbehind\b", line, re.IGNORECASE) and not BEHIND.search(line):
            words.append("after")
        found += [f"{path.relative_to(ROOT)}:{number}: {line.strip()} ({better})" for better in words]
    return found


@pytest.mark.parametrize("place", PLACES)
def test_no_banned_word(place: str) -> None:
    own = Path(__file__)
    listed = files(place)
    if not listed:
        pytest.skip("not a checkout of git")
    assert [fault for path in listed if path != own for fault in faults(path)] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("This run goes on.", True),
        ("The token behind the last.", True),
        ("CtrlRecError: where the file is missing.", True),
        ("A title that is no item.", True),
        ("The tokenizer knows titles.", True),
        ("There is no such file.", False),
        ("The gpt model is no longer served.", False),
        ("The median of what lies behind the seeds.", False),
        ("The folder where results go.", False),
        ("`is no item`", False),
    ],
)
def test_the_list_finds_what_it_is_for(tmp_path: Path, line: str, wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for name, text in (("page.md", line), ("code.py", f'"""{line}"""\n'), ("code2.py", f"x = 1  # {line}\n")):
        (tmp_path / name).write_text(text)
        assert bool(faults(tmp_path / name)) == wrong, name


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    """The part of D401 that ruff does not see: nouns and question words in the place of a verb."""
    nouns = {
        "Whether", "Why", "How", "Who", "Whose", "What", "Which", "Where", "The", "A", "An", "One", "All", "Its", "Of",
        "As", "More", "Names", "Rows", "Lines", "Items", "Titles", "Ids", "Answers", "Positions", "Ranks", "Last",
    }  # fmt: skip
    found = []
    for path in (ROOT / "ctrlrec").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
                continue
            first = (ast.get_docstring(node) or "Return").split()[0]
            if first in nouns:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}: {first}")
    assert found == []
