"""Rewards land on the token that completes their line, on every kind of tokenizer."""

import copy
import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from chat_families import TEMPLATES, family
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_t5 import write_t5
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.instructions import templates
from ctrlrec.lm.parsing import last_tokens, written_items
from ctrlrec.rewards.credit import place

END = "</s>"


def unigram(texts: list[str]) -> PreTrainedTokenizerFast:
    """Pieces that carry the space before them, as SentencePiece has them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", END], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, unk_token="<unk>")


def byte_fallback(texts: list[str]) -> PreTrainedTokenizerFast:
    """BPE over characters where a rare one becomes several byte tokens, as in Llama 2."""
    metaspace = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Sequence(metaspace)
    ascii_only = [text for text in texts if text.isascii()]
    learner.train_from_iterator(ascii_only, trainers.BpeTrainer(vocab_size=250, show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    pieces = ["<unk>", END, *(f"<0x{byte:02X}>" for byte in range(256)), *learnt["vocab"]]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(metaspace)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, unk_token="<unk>")


@pytest.fixture(scope="module", params=["unigram t5", *TEMPLATES, "byte-level", "unigram", "byte fallback"])
def every_tokenizer(request, tokenizer: PreTrainedTokenizerFast, catalogue: Catalogue, tmp_path_factory):
    """Those of ``any_tokenizer``, those of chat families, and a T5's; each a copy of its own."""
    texts = [*catalogue.titles, *(f"{n}. {title}\n" for n, title in enumerate(catalogue.titles, 1))]
    if request.param in TEMPLATES:
        return family(request.param)
    if request.param == "unigram t5":
        folder = tmp_path_factory.mktemp("t5")
        write_t5(folder, texts * 3)
        made = PreTrainedTokenizerFast.from_pretrained(folder)
        made.add_tokens([AddedToken("\n", normalized=False)])
        return made
    if request.param == "byte-level":
        return copy.deepcopy(tokenizer)
    return {"unigram": unigram, "byte fallback": byte_fallback}[request.param](texts * 3)


@pytest.fixture(scope="module", params=["byte-level", "unigram", "byte fallback"])
def any_tokenizer(request, tokenizer: PreTrainedTokenizerFast, catalogue: Catalogue) -> PreTrainedTokenizerFast:
    texts = [*catalogue.titles, *(f"{n}. {title}\n" for n, title in enumerate(catalogue.titles, 1))]
    made: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
        "byte-level": lambda: tokenizer,
        "unigram": lambda: unigram(texts * 3),
        "byte fallback": lambda: byte_fallback(texts),
    }
    return made[request.param]()


def reader(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[int]], str]:
    return partial(tokenizer.decode, skip_special_tokens=True)


def answer_tokens(tokenizer: PreTrainedTokenizerFast, text: str, end: bool = True) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"] + ([tokenizer.eos_token_id] if end else [])


@pytest.mark.parametrize("truncated", [False, True])
def test_each_reward_is_on_the_token_that_completes_its_line(
    any_tokenizer: PreTrainedTokenizerFast, catalogue: Catalogue, truncated: bool
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        chosen = [catalogue.titles[item] for item in rng.permutation(40)[: int(rng.integers(1, 11))]]
        tokens = answer_tokens(any_tokenizer, templates.answer(chosen), end=not truncated)
        if truncated:
            tokens = tokens[: max(1, int(len(tokens) * 0.8))]
        text = any_tokenizer.decode(tokens, skip_special_tokens=True)
        written = written_items(text)
        if not truncated:
            assert [item.title for item in written] == chosen
        found = last_tokens(reader(any_tokenizer), tokens, text, [item.end for item in written])
        assert len(found) == len(written)
        assert found == sorted(found)
        for item, index in zip(written, found, strict=True):
            before = any_tokenizer.decode(tokens[:index], skip_special_tokens=True)
            behind = any_tokenizer.decode(tokens[: index + 1], skip_special_tokens=True)
            assert behind.startswith(text[: item.end])
            assert not before.startswith(text[: item.end])
        if not truncated:  # the end-of-sequence token belongs to the list alone
            assert found[-1] < len(tokens) - 1


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_tokens_are_read(data, tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=30))
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    written = written_items(text)
    found = last_tokens(reader(tokenizer), tokens, text, [item.end for item in written])
    assert len(found) == len(written)
    assert all(0 <= index < len(tokens) for index in found)
    assert found == sorted(found)


def by_whole_prefixes(tokenizer: PreTrainedTokenizerFast, tokens: list[int], text: str, ends: list[int]) -> list[int]:
    """What ``last_tokens`` says it gives, each prefix decoded from its first token."""
    prefixes = [tokenizer.decode(tokens[: index + 1], skip_special_tokens=True) for index in range(len(tokens))]
    found: list[int] = []
    for end in ends:
        begin = found[-1] if found else 0
        fitting = (index for index in range(begin, len(tokens)) if prefixes[index].startswith(text[:end]))
        found.append(next(fitting, len(tokens) - 1))
    return found


@given(data=st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("cleaned", [False, True])
def test_places_are_those_of_whole_prefixes(data, every_tokenizer: PreTrainedTokenizerFast, cleaned: bool) -> None:
    """Any tokens: special ones anywhere, characters cut in half, and titles among them."""
    tokenizer = every_tokenizer
    tokenizer.clean_up_tokenization_spaces = cleaned
    some = st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=12)
    titles = st.sampled_from(["1. Amélie\n", "2. 千と千尋\n", " 3. Stalker 🎬\n", "Don't . , ?\n"])
    parts = data.draw(st.lists(some | titles.map(lambda title: answer_tokens(tokenizer, title, False)), min_size=1))
    tokens = [token for part in parts for token in part]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    ends = [item.end for item in written_items(text)]
    assert last_tokens(reader(tokenizer), tokens, text, ends) == by_whole_prefixes(tokenizer, tokens, text, ends)


def test_an_endless_answer_is_read_in_linear_time(
    any_tokenizer: PreTrainedTokenizerFast, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = answer_tokens(any_tokenizer, templates.answer(catalogue.titles * 3), end=False)
    text = any_tokenizer.decode(tokens, skip_special_tokens=True)
    ends = [item.end for item in written_items(text)]
    expected, decoded = by_whole_prefixes(any_tokenizer, tokens, text, ends), []
    plain = type(any_tokenizer).decode

    def counting(self: PreTrainedTokenizerFast, ids: list[int], **options: bool) -> str:
        decoded.append(len(ids))
        return plain(self, ids, **options)

    monkeypatch.setattr(type(any_tokenizer), "decode", counting)
    assert last_tokens(reader(any_tokenizer), tokens, text, ends) == expected
    assert sum(decoded) < 8 * len(tokens)


def test_what_is_placed_is_what_was_earned(any_tokenizer: PreTrainedTokenizerFast, catalogue: Catalogue) -> None:
    rng = np.random.default_rng(1)
    rows, items, lists = [], [], []
    for count in (1, 4, 10):
        tokens = answer_tokens(
            any_tokenizer, templates.answer([catalogue.titles[i] for i in rng.permutation(40)[:count]])
        )
        text = any_tokenizer.decode(tokens, skip_special_tokens=True)
        ends = [item.end for item in written_items(text)]
        rows.append((*last_tokens(reader(any_tokenizer), tokens, text, ends), len(tokens) - 1))
        items.append(rng.normal(size=count).tolist())
        lists.append(float(rng.normal()))
    length = max(row[-1] for row in rows) + 1
    placed = place(items, [10 * whole for whole in lists], rows, length)
    assert placed.shape == (3, length)
    for row in range(3):
        assert float(placed[row].sum()) == pytest.approx(sum(items[row]) + 10 * lists[row], abs=1e-4)
        assert torch.nonzero(placed[row])[:, 0].tolist() == list(rows[row])
        for value, index in zip(items[row], rows[row][:-1], strict=True):
            assert float(placed[row, index]) == pytest.approx(value)


def test_rewards_on_one_token_add_up() -> None:
    """A truncated answer: its last item and the list share the last token."""
    assert place([[0.25, -1.0]], [5.0], [[2, 4, 4]], 6).tolist() == [[0, 0, 0.25, 0, 4.0, 0]]
    assert place([[]], [5.0], [[3]], 4).tolist() == [[0, 0, 0, 5.0]]
