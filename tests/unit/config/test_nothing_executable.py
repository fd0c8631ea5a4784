"""Nothing that a stranger may have written is ever executed: read off the source of the package itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "ctrlrec").rglob("*.py"))
_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "runpy"}
_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "extractall",
}
# A call that is safe only with this keyword at this value.
_NEEDED = {
    "torch.load": ("weights_only", True),
    "fit.fit": ("weights_only", True),
    "AutoTokenizer.from_pretrained": ("trust_remote_code", False),
    "AutoModelForCausalLM.from_pretrained": ("trust_remote_code", False),
    "loader.from_pretrained": ("trust_remote_code", False),
}
# A keyword that no call may have at this value.
_FORBIDDEN = {("trust_remote_code", True), ("allow_pickle", True), ("weights_only", False), ("shell", True)}


def _name(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_reads_data_and_runs_nothing(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & _MODULES
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in _MODULES
        if isinstance(node, ast.Call):
            called = _name(node.func)
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            assert called not in _CALLS and called.rpartition(".")[2] not in ("extractall", "read_pickle"), called
            assert not set(given.items()) & _FORBIDDEN, called
            if called in _NEEDED and "gguf_file" not in given:  # a GGUF file is weights and a vocabulary, no code
                word, value = _NEEDED[called]
                assert given.get(word) is value, f"{path}:{node.lineno}: {called} without {word}={value}"
