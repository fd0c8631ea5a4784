"""Titles are cut to a number of the backbone's tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ctrlrec.lm.backbone import train_tokenizer
from ctrlrec.runners import cut_titles

TITLES = st.text(st.sampled_from("ab  .\u00e9\u0301\u05e9\u05dc\u0627\u3042\U0001f600"), min_size=1, max_size=40)


@pytest.fixture(scope="module", params=[300, 512])
def backbone(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer(["a b. ab \u00e9\u0301 \u05e9\u05dc\u05d5\u05dd \u3042\u3042 \U0001f600"] * 9, request.param)


@settings(max_examples=150, deadline=None)
@given(title=TITLES.map(str.strip).filter(bool), limit=st.integers(4, 12))
def test_a_title_keeps_as_many_whole_characters_as_fit(
    backbone: PreTrainedTokenizerFast, title: str, limit: int
) -> None:
    def count(text: str) -> int:
        return len(backbone(text, add_special_tokens=False)["input_ids"])

    (cut,) = cut_titles(backbone, [title], limit)
    assert title.startswith(cut)
    assert cut
    assert cut == cut.strip()
    assert count(cut) <= limit
    assert cut_titles(backbone, [cut], limit) == [cut]
    if cut != title:
        following = title[len(cut) :]
        assert count(cut + following[: len(following) - len(following.lstrip()) + 1]) >= limit - 1


def test_a_character_of_more_tokens_than_allowed_stays() -> None:
    tokens = train_tokenizer(["abc"], 270)
    assert cut_titles(tokens, ["\U0001f600", "\U0001f600b", "ab"], 2) == ["\U0001f600", "\U0001f600", "ab"]
    assert cut_titles(tokens, [], 2) == []
