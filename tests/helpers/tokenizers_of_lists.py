"""Tokenizers that merge the parts of a list in different ways."""

import json
from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ctrlrec.lm.backbone import train_tokenizer

_TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '|' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant|' }}{% endif %}"
)
# The pattern of Llama-3 and Qwen: punctuation takes the line breaks after it.
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def _fast(raw: Tokenizer) -> PreTrainedTokenizerFast:
    raw.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<s>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _byte_level(texts: Sequence[str], pattern: str | None) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    raw.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level])
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False))
    return _fast(raw)


def llama_mini(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """The project's own: a number with its line break is one token."""
    return train_tokenizer(texts, 512)


def gpt2_like(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Words take the space before them, digits stand alone: SmolLM2."""
    return _byte_level(texts, r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def llama3_like(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Punctuation takes the line break after it."""
    return _byte_level([*texts, *([")\n(x)\n"] * 50)], _CL100K)


def sentencepiece_like(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Llama-2: a space in front, spaces as signs, no rules where words end, bytes for what is rare."""
    words = [word for text in texts for word in text.replace("\n", " ").split(" ")]
    plain = Tokenizer(models.BPE())
    plain.train_from_iterator([f"▁{word}" for word in words], trainers.BpeTrainer(vocab_size=400, show_progress=False))
    bytes_ = {f"<0x{byte:02X}>": byte for byte in range(256)}
    model = json.loads(plain.to_str())["model"]
    learnt = sorted(model["vocab"], key=model["vocab"].get)
    vocabulary = bytes_ | {token: 256 + place for place, token in enumerate(learnt)}
    merges = [tuple(merge) for merge in model["merges"]]
    raw = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _fast(raw)


def merging(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Merges across words and lines: no list can be followed with it."""
    return _byte_level([*texts, *(f"1. {letter}" for letter in "ABCTSMq" * 40)], None)
