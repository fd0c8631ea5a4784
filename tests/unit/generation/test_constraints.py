"""A constraint that is one file in a plug-in folder: every engine obeys it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from answering import generate
from steps_constraint import asking, plugged_in
from transformers import PreTrainedModel

from ctrlrec.config.compose import compose
from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.beams import beam_search
from ctrlrec.generation.constraints import CONSTRAINTS, make_constraint
from ctrlrec.generation.constraints.base import Constraint, support
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.pipeline.run import planned

Make = Callable[..., PreTrainedModel]
ENGINES = ("native", "hf")
PROMPTS = [[1, 20, 30, 4, 2], [1, 77, 4, 2], [1, 90, 91, 92, 93, 94, 95, 4, 2], [1, 4, 2]]


@pytest.fixture
def steps(tmp_path: Path, catalogue: Catalogue, chat_format: ChatFormat) -> Iterator[Constraint]:
    with plugged_in(tmp_path, catalogue, chat_format) as constraint:
        yield constraint


def obeys(tokens: list[int], rest: int, chat_format: ChatFormat, limit: int) -> bool:
    """What the text of the plug-in's first line says, in other words."""
    (newline,) = chat_format.contents(["\n"])[0]
    for place, token in enumerate(tokens):
        if place == rest + 6:
            return token == chat_format.end and place == len(tokens) - 1
        if place % 3 == 2:
            if token != newline:
                return False
        elif (token - 10) % 7 != (rest + place) % 7 or not 10 <= token < 500:
            return False
    return len(tokens) == limit


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("temperature", [None, 0.7, 2.0])
def test_answers_obey(
    steps: Constraint, make_model: Make, chat_format: ChatFormat, engine: str, temperature: float | None
) -> None:
    model, counts = make_model(), [1, 2, 0, 4]
    asked = [asking(count) for count in counts]
    torch.manual_seed(0)
    answers = generate(model, chat_format, PROMPTS, 9, engine, temperature, 3, 5, steps, asked)
    free = generate(model, chat_format, PROMPTS, 9, engine)
    for index, answer in enumerate(answers):
        count = counts[index // 3]
        assert obeys(answer.tokens, count, chat_format, 9) == (count != 0)
        if temperature is None:
            assert (answer == free[index // 3]) == (count == 0)
    assert {len(answer.tokens) for answer in answers[:6]} == {8, 9}  # they ended: after 7 and 8 tokens


def test_engines_take_the_same_greedy_tokens(steps: Constraint, make_model: Make, chat_format: ChatFormat) -> None:
    model, asked = make_model(), [asking(count) for count in (1, 2, 0, 4)]
    native, hf = (generate(model, chat_format, PROMPTS, 12, name, constraint=steps, asked=asked) for name in ENGINES)
    assert native == hf


def exactly(scores: torch.Tensor, tokens: list[int], rest: int, temperature: float) -> list[float]:
    """Log-probabilities among the allowed tokens alone, each from a softmax over those."""
    found = []
    for place, token in enumerate(tokens):
        if place == rest + 6 or place % 3 == 2:
            found.append(0.0)
            continue
        allowed = [other for other in range(10, 500) if (other - 10) % 7 == (rest + place) % 7]
        found.append(float(torch.log_softmax(scores[place, allowed] / temperature, -1)[allowed.index(token)]))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_log_probs_are_those_among_allowed_tokens(
    steps: Constraint, make_model: Make, chat_format: ChatFormat, engine: str
) -> None:
    model = make_model()
    torch.manual_seed(1)
    asked = [asking(count) for count in (1, 2, 3, 4)]
    answers = generate(model, chat_format, PROMPTS, 12, engine, 0.7, 4, constraint=steps, asked=asked)
    assert len({tuple(answer.tokens) for answer in answers}) == 16
    for index, answer in enumerate(answers):
        prompt = PROMPTS[index // 4]
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1 : -1]
        expected = exactly(scores, answer.tokens, index // 4 + 1, 0.7)
        assert answer.log_probs == pytest.approx(expected, abs=1e-4)
        assert answer.log_probs[2] == 0.0


def test_beams_are_the_likeliest_allowed_answers(steps: Constraint, make_model: Make, chat_format: ChatFormat) -> None:
    model, count = make_model(), 2
    found = beam_search(model, chat_format, PROMPTS[:2], 2, 5, steps, [steps.start(asking(count))] * 2)
    for prompt, rows in zip(PROMPTS, found, strict=False):
        with torch.no_grad():
            first = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        openings = [token for token in range(10, 500) if (token - 10) % 7 == count]
        log_probs = torch.log_softmax(first[openings], -1)
        whole = {}
        for token, score in zip(openings, log_probs.tolist(), strict=True):
            with torch.no_grad():
                second = model(input_ids=torch.tensor([[*prompt, token]])).logits[0, -1]
            following = [other for other in range(10, 500) if (other - 10) % 7 == count + 1]
            after = torch.log_softmax(second[following], -1).tolist()
            whole |= {(token, other): score + more for other, more in zip(following, after, strict=True)}
        # Beams keep the best five first tokens, so that the very best whole answer is found.
        kept = {openings[place] for place in log_probs.topk(5).indices.tolist()}
        expected = sorted((pair for pair in whole if pair[0] in kept), key=lambda pair: -whole[pair])[:5]
        assert [tuple(row) for row in rows] == expected


def test_fewer_answers_than_beams_are_no_invented_ones(
    make_model: Make, chat_format: ChatFormat, catalogue: Catalogue
) -> None:
    class Two(Constraint):
        def start(self, instruction: Instruction) -> Any:
            return ()

        def allowed(self, state: Any) -> list[int]:
            return [self.chat_format.end] if len(state) == 2 else [30, 40] if not state else [50]

        def advance(self, state: Any, token: int) -> Any:
            return (*state, token)

    two = Two(catalogue, chat_format, ConstraintConfig("two"))
    (found,) = beam_search(make_model(), chat_format, PROMPTS[:1], 6, 4, two, [()])
    assert sorted(found) == [[30, 50, chat_format.end], [40, 50, chat_format.end]]


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_allowed_is_an_error_that_names_the_state(
    steps: Constraint, make_model: Make, chat_format: ChatFormat, engine: str
) -> None:
    with pytest.raises(
        CtrlRecError, match=r"constraint\.name=steps: no token is allowed .*Written\(rest=5, tokens=4\)"
    ):
        generate(make_model(), chat_format, PROMPTS[:1], 9, engine, 1.0, constraint=steps, asked=[asking(5)])


def test_none_is_no_constraint(catalogue: Catalogue, chat_format: ChatFormat) -> None:
    assert make_constraint(ConstraintConfig("none"), catalogue, chat_format) is None
    assert support(None, [asking(1)], [[5]]) is None
    unconstrained = CONSTRAINTS["none"](catalogue, chat_format, ConstraintConfig("none"))
    state = unconstrained.start(asking(1))
    scores = torch.randn(1, 9)
    assert unconstrained.restrict([unconstrained.advance(state, 3)], scores) is scores


# ---------------------------------------------------------------------- configuration


def test_the_constraint_is_a_choice_and_part_of_fingerprints(steps: Constraint, tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\nu,i,1\n")
    (tmp_path / "items.jsonl").write_text('{"item": "i", "title": "t", "categories": ["c"]}\n')
    row = ["dataset=records", f"dataset.path={tmp_path}", "variant=full"]
    free, bound = planned(compose(*row)), planned(compose(*row, "constraint.name=steps"))
    assert {name for name in free if free[name] != bound[name]} == {"evaluate"}
    trained = planned(compose(*row, "constraint.name=steps", "rl.constrained=true"))
    assert {name for name in free if free[name] != trained[name]} == {"rl", "evaluate"}
    alone = planned(compose(*row, "constraint.name=steps", "rl.constrained=true", "evaluation.constrained=false"))
    assert alone["rl"] == trained["rl"] and alone["evaluate"] not in (free["evaluate"], trained["evaluate"])
    taught = planned(compose(*row, "constraint.name=steps", "sl.constrained=true"))
    assert {name for name in free if free[name] != taught[name]} == {"sl", "rl", "evaluate"}
    teacher = [*row[:2], "variant=sasrec"]
    assert planned(compose(*teacher)) == planned(compose(*teacher, "constraint.name=steps"))
    with pytest.raises(CtrlRecError, match=r"constraint\.name=step: did you mean 'steps'"):
        compose("constraint.name=step")


@pytest.mark.parametrize("words", [("generation.engine=api",), ("variant=api",)])
def test_engines_that_cannot_be_constrained_are_refused(steps: Constraint, words: tuple[str, ...]) -> None:
    with pytest.raises(CtrlRecError, match=r"constraint\.name=steps"):
        compose("constraint.name=steps", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rl.constrained=true",), r"rl\.constrained=true constraint\.name=none"),
        (("sl.constrained=true",), r"sl\.constrained=true constraint\.name=none"),
        (("constraint=control", "variant=instructrec"), r"constraint\.name=control: its items are beams"),
        (("constraint=fresh", "variant=instructrec", "sl.constrained=true"), r"variant=instructrec sl\.constrained"),
    ],
)
def test_what_cannot_be_trained_or_answered_under_a_constraint_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        compose(*words)


def test_answers_of_a_server_are_free_where_only_training_is_constrained() -> None:
    compose("constraint=fresh", "variant=v2", "evaluation.constrained=false", "generation.engine=api")
