"""What a backbone cannot do is said from its configuration alone, whatever its size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_families import family
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    ByT5Tokenizer,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MambaConfig,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    T5Config,
)

from ctrlrec.config.schema import ModelConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.abilities import check_model, empty_model
from ctrlrec.lm.backbone import answer_ends, load_ends, load_model, make_tokenizer, save_tokenizer
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.merge import merge_adapter, save_whole

# Of seven billion parameters and more, none of which is ever allocated.
LARGE: dict[str, Any] = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 3, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 8192, "pad_token_id": 0,
}  # fmt: skip
EVERYTHING = {"training", "adapters"}


@pytest.fixture
def published(tmp_path: Path, make_model_config: Callable[..., ModelConfig]) -> Callable[..., ModelConfig]:
    """A folder with the configuration of a model, which is all that is looked at."""

    def make(settings: PretrainedConfig, **changes: Any) -> ModelConfig:
        settings.save_pretrained(tmp_path / "model")
        return make_model_config(
            **{"kind": "pretrained", "path": str(tmp_path / "model"), "max_length": 1024} | changes
        )

    return make


@pytest.mark.parametrize(
    "settings",
    [
        LlamaConfig(**LARGE), Qwen3Config(**LARGE), Phi3Config(**LARGE), Gemma3TextConfig(**LARGE), GPT2Config(),
        GPTNeoXConfig(), OPTConfig(), BloomConfig(), GraniteConfig(**LARGE),
    ],
    ids=lambda settings: settings.model_type,
)  # fmt: skip
def test_backbones_that_can_do_everything_pass(
    settings: PretrainedConfig, published: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    config = published(settings)
    check_model(config, tmp_path, EVERYTHING)
    assert empty_model(config, tmp_path).device.type == "meta"


@pytest.mark.parametrize(
    ("settings", "needs", "said"),
    [
        (MixtralConfig(**LARGE), EVERYTHING, r"mixtral\): model\.layers\.0\.mlp\.\w+ is a Mixtral\w+, whose adapter"),
        (Qwen3MoeConfig(**LARGE), EVERYTHING, r"qwen3_moe\): model\.layers\.0\.mlp\.\w+ is a Qwen3Moe"),
        (MambaConfig(), {"adapters"}, "take no adapter .*Mamba"),
        (Gemma2Config(**LARGE), {"training"}, r"final_logit_softcapping=30\.0 changes logits"),
        (CohereConfig(**LARGE), {"training"}, r"logit_scale=0\.0625 changes logits"),
        (GPT2Config(n_positions=256), set(), r"model\.max_length=1024: .*256 positions"),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_what_a_backbone_cannot_do_is_said(
    settings: PretrainedConfig, needs: set[str], said: str, published: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    config = published(settings)
    with pytest.raises(CtrlRecError, match=said):
        check_model(config, tmp_path, needs)
    if needs:  # as it comes, it may answer
        check_model(config, tmp_path, set())


def test_a_backbone_without_positions_is_refused(
    published: Callable[..., ModelConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaModel, "forward", lambda self, input_ids, attention_mask, use_cache: None)
    with pytest.raises(CtrlRecError, match=r"llama\): it takes no positions"):
        check_model(published(LlamaConfig(**LARGE)), tmp_path, {"training"})


def test_an_encoder_decoders_positions_have_no_end(published: Callable[..., ModelConfig], tmp_path: Path) -> None:
    config = published(T5Config(n_positions=512), kind="encoder_decoder")
    check_model(config, tmp_path, {"training", "adapters"})


def test_a_tokenizer_without_a_fast_form_is_refused(published: Callable[..., ModelConfig], tmp_path: Path) -> None:
    config = published(T5Config(), kind="encoder_decoder")
    ByT5Tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(CtrlRecError, match="ByT5Tokenizer, has no fast form"):
        make_tokenizer(config, tmp_path, lambda: [])


# ---------------------------------------------------------------------- ends


@pytest.mark.parametrize("listed", [None, 3, [3, 9]])
@pytest.mark.parametrize("where", ["generation_config.json", "config.json"])
def test_the_ends_that_a_backbone_was_published_with_reach_every_stage(
    listed: Any, where: str, published: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    config = published(LlamaConfig(eos_token_id=listed if where == "config.json" else 7))
    if where == "generation_config.json":
        (tmp_path / "model" / where).write_text(json.dumps({"eos_token_id": listed}))
    ends = answer_ends(config, tmp_path)
    assert ends == ([] if listed is None else [3] if listed == 3 else listed)
    tokenizer = family("phi3")
    save_tokenizer(tokenizer, ends, tmp_path / "kept")
    assert load_ends(tmp_path / "kept") == ends
    kept = ChatFormat.load(tmp_path / "kept", config)
    assert kept.ends == ChatFormat(tokenizer, config).ends | set(ends)


def test_a_server_of_a_merged_model_ends_answers_as_we_do(
    make_model: Callable[..., Any], chat_format: ChatFormat, tmp_path: Path
) -> None:
    several = ChatFormat(chat_format.tokenizer, chat_format.config, ends=[9])
    save_whole(make_model(), several, tmp_path / "whole")
    assert GenerationConfig.from_pretrained(tmp_path / "whole").eos_token_id == sorted({chat_format.end, 9})


# ---------------------------------------------------------------------- adapters in place of models


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """What a PEFT fine-tuning leaves: an adapter that names its base, and the tokenizer."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=400, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(str(tmp_path / "tuned"))
    family("qwen3").save_pretrained(tmp_path / "tuned")
    return tmp_path / "tuned"


@pytest.mark.parametrize("with_config", [False, True])
def test_an_adapter_is_no_backbone(
    adapter: Path, with_config: bool, make_model_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    if with_config:  # some publish it beside
        (adapter / "config.json").write_text((tmp_path / "base" / "config.json").read_text())
    config = make_model_config(kind="pretrained", path=str(adapter))
    said = rf"adapter of {tmp_path}/base and no whole model; merge it first: python -m ctrlrec\.lm\.merge {adapter}"
    for load in (
        lambda: check_model(config, tmp_path, set()),
        lambda: make_tokenizer(config, tmp_path, lambda: []),
        lambda: load_model(config, tmp_path, family("qwen3"), 0),
    ):
        with pytest.raises(CtrlRecError, match=said):
            load()


def test_the_command_that_is_named_merges_it(
    adapter: Path, make_model_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    merge_adapter(adapter, tmp_path / "whole")
    config = make_model_config(kind="pretrained", path=str(tmp_path / "whole"), max_length=640)
    tokenizer = make_tokenizer(config, tmp_path, lambda: [])
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        whole = load_model(config, tmp_path, tokenizer, 0)(input_ids=ids).logits
        tuned = AutoModelForCausalLM.from_pretrained(adapter)(input_ids=ids).logits
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")(input_ids=ids).logits
    assert torch.allclose(whole, tuned, atol=1e-5) and not torch.allclose(whole, base, atol=1e-3)
    with pytest.raises(CtrlRecError, match="exists"):
        merge_adapter(adapter, tmp_path / "whole")
