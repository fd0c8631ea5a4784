"""The rooms of the house: imports run one way along the flow of data, and files stay small enough to read."""

import ast
from pathlib import Path

import ctrlrec

HOME = Path(ctrlrec.__file__).parent
# In the order in which data flows; a room may import from itself and from those before it.
ROOMS = (
    "errors", "config", "runtime", "data", "controls", "teacher", "lm", "generation", "instructions", "rewards", "sl",
    "rl", "baselines", "evaluation", "reporting", "pipeline", "app", "export", "recommend", "__main__",
)  # fmt: skip
LINES = 300
TABLES = ("config/schema.py",)  # one line a key


def imported(path: Path) -> set[str]:
    """Rooms that a module names in its imports, those inside functions included."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("ctrlrec.")}
    return rooms - {"__version__"}


def room(path: Path) -> str:
    return path.relative_to(HOME).parts[0].removesuffix(".py")


def test_imports_run_one_way() -> None:
    upward = [
        f"{path.relative_to(HOME)} -> {other}"
        for path in HOME.rglob("*.py")
        if path.parent != HOME or path.name != "__init__.py"
        for other in imported(path)
        if ROOMS.index(other) > ROOMS.index(room(path))
    ]
    assert upward == []


def test_only_commands_and_errors_stand_outside_a_room() -> None:
    commands = {"__main__.py", "export.py", "recommend.py"}
    assert {path.name for path in HOME.glob("*.py")} == {"__init__.py", "errors.py", *commands}


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(HOME)): count
        for path in HOME.rglob("*.py")
        if path.relative_to(HOME).as_posix() not in TABLES
        and (count := len(path.read_text(encoding="utf-8").splitlines())) > LINES
    }
    assert long == {}
