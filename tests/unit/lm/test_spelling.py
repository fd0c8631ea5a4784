"""The parts of a list make up what the tokenizer gives for its text."""

import random
from collections.abc import Callable, Sequence

import pytest
import tokenizers_of_lists as tokenizers
from transformers import PreTrainedTokenizerFast

from ctrlrec.config.schema import ModelConfig
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions import templates
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.spelling import spell_lists, spell_titles

Make = Callable[[Sequence[str]], PreTrainedTokenizerFast]
ODD = (
    "7",
    "10.",
    "Who? (1999)",
    "x)",
    "50% Off",
    "Q. & A.",
    "'",
    "<s>assistant|",
    "</s>",
    "Alien",
    "Alien 3",
    "a: 'b'",
)


def formatted(make: Make, titles: Sequence[str], config: Callable[..., ModelConfig]) -> ChatFormat:
    return ChatFormat(make(templates.specimens(titles, ["Comedy"])), config())


@pytest.mark.parametrize("name", ["llama_mini", "gpt2_like", "llama3_like", "sentencepiece_like"])
def test_parts_make_up_the_labels_of_sl(
    name: str, catalogue: Catalogue, make_model_config: Callable[..., ModelConfig]
) -> None:
    odd = [title for title in ODD if name != "sentencepiece_like" or "<" not in title]  # spelt out, they get spaces
    titles = tuple(dict.fromkeys([*catalogue.titles, *odd]))
    chat_format = formatted(getattr(tokenizers, name), titles, make_model_config)
    spelling = spell_lists(chat_format, titles, 30)
    rng = random.Random(0)
    for _ in range(60):
        items = [rng.randrange(len(titles)) for _ in range(rng.randint(1, 30))]
        (row,) = chat_format.contents([templates.answer([titles[item] for item in items])])
        assert spelling.list(items) == (*row, chat_format.end)
        assert len(row) <= spelling.around(len(items)) + spelling.lengths[items].sum()
    assert (spelling.inner is spelling.last) == (name != "llama3_like")
    alone = spell_titles(chat_format, titles)
    assert [list(row) for row in alone.last] == chat_format.contents(titles)


def test_a_tokenizer_that_merges_titles_with_numbers_is_refused(
    catalogue: Catalogue, make_model_config: Callable[..., ModelConfig]
) -> None:
    chat_format = formatted(tokenizers.merging, catalogue.titles, make_model_config)
    with pytest.raises(CtrlRecError, match=r"model tiny: its tokenizer writes .* merges it .*constraint\.name=none"):
        spell_lists(chat_format, catalogue.titles, 12)


def test_titles_that_a_tokenizer_makes_one_or_cannot_write_are_refused(
    make_model_config: Callable[..., ModelConfig],
) -> None:
    from tokenizers import normalizers

    tokenizer = tokenizers.llama_mini(["1. Alien\n2. Aliens"])
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    chat_format = ChatFormat(tokenizer, make_model_config())
    with pytest.raises(CtrlRecError, match="the titles 'ALIEN' and 'alien' have the same tokens"):
        spell_lists(chat_format, ("ALIEN", "alien"), 3)
    with pytest.raises(CtrlRecError, match="it cannot write the title 'ALIEN', which becomes 'alien'"):
        spell_titles(chat_format, ("ALIEN", "x"))
