"""What a chat template writes stays text in titles, also in the answers that other trainers decode."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ctrlrec.config.compose import compose
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards import verl
from ctrlrec.rewards.recorded import RecordedReward
from ctrlrec.rewards.reward import Reward
from ctrlrec.rewards.trl import ControlReward
from ctrlrec.teacher.ranker import Ranker

MARKED = ("Doom <|end|> II", "<|assistant|>", "<|pad|>1. M", "[INST] <<SYS>>")


@pytest.fixture
def marked(catalogue: Catalogue) -> Catalogue:
    """The catalogue with tokens of the chat template in its first titles."""
    return replace(catalogue, titles=(*MARKED, *catalogue.titles[len(MARKED) :]))


def question(catalogue: Catalogue) -> str:
    row = {
        "task": "sequential", "user": "u", "history": [catalogue.titles[9]], "target": catalogue.titles[0],
        "item_count": 5, "category": None, "proportion": None, "candidates": None, "constraints": [],
    }  # fmt: skip
    return json.dumps(row, ensure_ascii=False)


def test_titles_with_tokens_of_the_template_are_legal_items(
    marked: Catalogue, chat_format: ChatFormat, ranker: Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = [*MARKED, marked.titles[7]]
    (tokens,) = chat_format.responses([templates.answer(titles)])
    text = chat_format.tokenizer.decode(tokens, skip_special_tokens=True)  # as TRL and verl decode
    reward = Reward(compose().reward)
    (rewarded,) = RecordedReward(marked, ranker, reward)([question(marked)], [text])
    assert rewarded is not None
    assert [item.title for item in rewarded.written] == titles
    assert rewarded.judgement.illegal == (None,) * 5 and rewarded.judgement.items == (0, 1, 2, 3, 7)
    assert rewarded.items[0] == 1.0  # the target
    (item,) = ControlReward(marked, ranker, reward, "item")([""], [text], [tokens], instruction=[question(marked)])
    assert item == pytest.approx(sum(rewarded.items))
    monkeypatch.setattr(verl, "_rewards", lambda folder, changed: RecordedReward(marked, ranker, reward))
    manager = verl.ItemRewardManager({}, chat_format.tokenizer)
    row = SimpleNamespace(
        non_tensor_batch={"reward_model": {"ground_truth": question(marked)}, "extra_info": {"run": "somewhere"}},
        batch={"responses": torch.tensor(tokens),
               "attention_mask": torch.ones(len(tokens))},
    )  # fmt: skip
    score = manager._scored(row)["reward_score"]
    assert [value for _, value in score.placed[:-1]] == pytest.approx(rewarded.items)
    places = [place for place, _ in score.placed]
    assert places == sorted(set(places)) and places[-1] == len(tokens) - 1


def test_completions_come_as_text_messages_or_parts(catalogue: Catalogue, ranker: Ranker) -> None:
    function = ControlReward(catalogue, ranker, Reward(compose().reward), "list")
    text = templates.answer([catalogue.titles[0], catalogue.titles[3]])
    completions = [
        text,
        [{"role": "assistant", "content": text}],
        [{"role": "assistant", "content": [{"type": "text", "text": text}]}],
        [{"role": "tool", "content": "x"}, {"role": "assistant", "content": text}],
        [],
        [{"role": "assistant", "content": None}],
    ]
    values = function([""] * 6, completions, instruction=[question(catalogue)] * 6)
    assert len(set(values[:4])) == 1 and values[0] != 0
    assert values[4:] == [0.0, 0.0]  # an answer without items


def test_an_instruction_is_read_as_it_was_written(builder: InstructionBuilder, make_builder: Callable) -> None:
    everything = [*builder.epoch(0, builder.families), *make_builder(blend_share=1.0).epoch(0, builder.families)]
    assert {example.instruction.task for example in everything} >= {"sequential", "blend", "search", "chat"}
    for example in everything:
        asked = example.instruction
        read = Instruction.read(json.loads(json.dumps(asked.record(builder.catalogue))), builder.catalogue)
        assert read == replace(asked, messages=read.messages)
        assert read.prompt == asked.prompt


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"task": "dance"}, "task 'dance' is unknown"),
        ({"target": "No Such Film"}, "there is no 'No Such Film'"),
        ({"task": "category_positive", "category": "No Such Category"}, "there is no 'No Such Category'"),
        ({"task": "blend", "constraints": [{"kind": "x"}]}, "is not a constraint"),
    ],
)
def test_what_is_no_instruction_of_the_catalogue_is_refused(catalogue: Catalogue, changed: dict, said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        Instruction.read({**json.loads(question(catalogue)), **changed}, catalogue)
