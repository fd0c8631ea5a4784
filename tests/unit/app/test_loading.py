"""What a model that recommends is loaded with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ctrlrec.app import loading
from ctrlrec.config.compose import compose


def test_a_model_has_the_tokens_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them a pretrained backbone lacks the rows that its adapters were trained with."""
    given: dict[str, Any] = {}

    def load_policy(*stages: Any, **options: Any) -> torch.nn.Module:
        given.update(options, stages=stages[-2:])
        return torch.nn.Linear(1, 1)

    chat_format = SimpleNamespace(tokenizer=None, items=("tokens",))
    monkeypatch.setattr(loading, "load_builder", lambda *_: (None, chat_format))
    monkeypatch.setattr(loading, "load_policy", load_policy)
    config = compose("variant=v2", f"cache={tmp_path}", "trainer=cpu")
    parts = loading._parts("row", config, {"sl": tmp_path}, True)
    assert given == {"items": ("tokens",), "stages": (tmp_path, None)}
    assert parts.model is not None and not parts.model.training
