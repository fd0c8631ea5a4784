"""The package without the modules that Windows lacks."""

import builtins
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ctrlrec.runtime import files, hardware

ROOT = Path(__file__).resolve().parents[3]

IMPORT_ALL = """
import builtins, importlib, pkgutil
import ctrlrec

found = builtins.__import__

def without(name, globals=None, *rest, **named):
    if name in ("fcntl", "resource") and (globals or {}).get("__name__", "").startswith("ctrlrec"):
        raise ImportError(name)
    return found(name, globals, *rest, **named)

builtins.__import__ = without
names = [module.name for module in pkgutil.walk_packages(ctrlrec.__path__, "ctrlrec.")]
for name in names:
    if name == "ctrlrec.generation.vllm_masks":  # imported by vLLM alone
        continue
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_imports_without_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_files_are_written_whole_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name in ("fcntl", "resource"):
            raise ImportError(name)
        return found(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    files.write_text(tmp_path / "kept", "whole")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(tmp_path / "kept", "\udce4")
    with pytest.raises(ZeroDivisionError):
        files.write_jsonl(tmp_path / "kept", ({"a": 1 / zero} for zero in (1, 0)))
    assert (tmp_path / "kept").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert hardware.peak_memory_bytes() is None
