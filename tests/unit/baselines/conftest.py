"""A tiny random T5 with a tokenizer of T5's kind: sentence pieces, no line break, no chat template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_t5 import write_t5
from transformers import PreTrainedModel

from ctrlrec.config.schema import ModelConfig
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.instructions import templates
from ctrlrec.lm.backbone import load_model, make_tokenizer
from ctrlrec.lm.chat_format import ChatFormat


@pytest.fixture(scope="session")
def t5(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5") / "model"
    write_t5(folder, templates.specimens(catalogue.titles, catalogue.category_names))
    return folder


@pytest.fixture(scope="session")
def t5_config(t5: Path, make_model_config: Callable[..., ModelConfig]) -> ModelConfig:
    return make_model_config(kind="encoder_decoder", path=str(t5))


@pytest.fixture(scope="session")
def t5_format(t5_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> ChatFormat:
    """With the tokenizer as the data stage saves it and later stages load it."""
    from ctrlrec.lm.backbone import load_tokenizer

    kept = tmp_path_factory.mktemp("kept")
    make_tokenizer(t5_config, kept, lambda: []).save_pretrained(kept)
    return ChatFormat(load_tokenizer(kept), t5_config)


@pytest.fixture
def make_t5(t5_config: ModelConfig, t5_format: ChatFormat, tmp_path: Path) -> Callable[[], Any]:
    def make() -> PreTrainedModel:
        model = load_model(t5_config, tmp_path, t5_format.tokenizer, 0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)  # so that predictions differ clearly from token to token
        return model.eval()

    return make
