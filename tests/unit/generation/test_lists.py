"""Lists under catalogue, fresh and control: what holds of arbitrary models and catalogues, and what is refused."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tokenizers_of_lists as tokenizers
import torch
from answering import generate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from list_worlds import CATEGORIES, TITLES, World, catalogues, questions, worlds
from transformers import PreTrainedModel

from ctrlrec.config.schema import ConstraintConfig, ModelConfig
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.registry import BLEND, CHAT, CONTROLS, SEQUENTIAL
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.beams import beam_search
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.constraints.base import Constraint, support
from ctrlrec.generation.decoder.forced import RunBatch
from ctrlrec.generation.lists import constraint as lists_of_titles
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards.judging import legality

FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
NAMES = ("catalogue", "fresh", "control")


@pytest.fixture(scope="module")
def drawn_worlds(
    make_model_config: Callable[..., ModelConfig], tmp_path_factory: pytest.TempPathFactory
) -> st.SearchStrategy[World]:
    config = make_model_config(hidden_size=16, layers=1, max_response_length=600, max_length=1200)
    return worlds(config, str(tmp_path_factory.mktemp("cache")))


@FEW
@given(data=st.data(), temperature=st.sampled_from([None, 0.7, 3.0]))
def test_fresh_lists_are_whole_and_legal(
    drawn_worlds: st.SearchStrategy[World], data: st.DataObject, temperature: float | None
) -> None:
    world = data.draw(drawn_worlds)
    asked = [data.draw(questions(world.catalogue)) for _ in range(3)]
    torch.manual_seed(0)
    for instruction, tokens in zip(asked, world.answers(world.constraint("fresh"), asked, temperature), strict=True):
        items = world.items(tokens)
        assert len(items) == instruction.item_count
        assert set(legality(items, instruction.history, len(items), instruction.candidates)) == {None}


@FEW
@given(data=st.data(), temperature=st.sampled_from([None, 1.0]))
def test_controlled_lists_meet_every_condition_or_are_refused_where_no_list_does(
    drawn_worlds: st.SearchStrategy[World], data: st.DataObject, temperature: float | None
) -> None:
    world = data.draw(drawn_worlds)
    constraint = world.constraint("control")
    asked = [data.draw(questions(world.catalogue, conditions=4)) for _ in range(4)]
    possible = []
    for instruction in asked:
        left = [item for item in range(len(world.catalogue)) if item not in instruction.history]
        lists = itertools.islice(itertools.combinations(left, instruction.item_count), 5000)
        if any(meets(items, instruction, world.catalogue) for items in lists):
            possible.append(instruction)
        else:
            with pytest.raises(CtrlRecError, match=rf"no list of {instruction.item_count} items outside the history"):
                constraint.start(instruction)
    torch.manual_seed(0)
    for instruction, tokens in zip(possible, world.answers(constraint, possible, temperature), strict=True):
        items = world.items(tokens)
        assert set(legality(items, instruction.history, len(items))) == {None}
        assert len(items) == instruction.item_count and meets(items, instruction, world.catalogue)


def meets(items: Sequence[int | None], instruction: Instruction, catalogue: Catalogue) -> bool:
    """Whether a list satisfies each condition as evaluation counts it."""
    for wish in instruction.conditions:
        inside = [item is not None and wish.category in catalogue.categories[item] for item in items]
        if wish.control.violation(inside, instruction.item_count, wish.proportion):
            return False
    return True


@pytest.fixture(scope="module")
def spellers(make_model_config: Callable[..., ModelConfig]) -> list[ChatFormat]:
    """Tokenizers that write a title alike wherever it stands, and one that ends some with the line break."""
    texts = templates.specimens(TITLES, CATEGORIES)
    config = make_model_config(max_response_length=600)
    return [ChatFormat(make(texts), config) for make in (tokenizers.llama_mini, tokenizers.llama3_like)]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), catalogue=catalogues(most=7), name=st.sampled_from(NAMES))
def test_allowed_tokens_are_those_of_all_lists_that_may_follow(
    spellers: list[ChatFormat],
    data: st.DataObject,
    catalogue: Catalogue,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At every place of an answer, against the tokens of every answer that there is."""
    monkeypatch.setattr(lists_of_titles, "_LONGEST", 3)  # finding out how a hundred lines are numbered takes time
    chat_format = data.draw(st.sampled_from(spellers))
    constraint = make_constraint(ConstraintConfig(name), catalogue, chat_format)
    assert constraint is not None
    asked = data.draw(questions(catalogue, conditions=3 * (name == "control")))
    asked = replace(asked, item_count=min(asked.item_count, 3))
    items = range(len(catalogue)) if asked.candidates is None else asked.candidates
    if name == "catalogue":
        lists = [*itertools.product(items, repeat=asked.item_count)]
    else:
        lists = [*itertools.permutations([item for item in items if item not in asked.history], asked.item_count)]
    if name == "control":
        lists = [chosen for chosen in lists if meets(chosen, asked, catalogue)]
    if not lists:
        with pytest.raises(CtrlRecError, match="no list of"):
            constraint.start(asked)
        return
    texts = [templates.answer([catalogue.titles[item] for item in chosen]) for chosen in lists]
    state, answers, place = constraint.start(asked), chat_format.responses(texts), 0
    while state is not None:
        choices = constraint.choices(state)
        assert choices is not None
        assert sorted(choices.tolist()) == sorted({answer[place] for answer in answers})
        token = data.draw(st.sampled_from(choices.tolist()))
        (state,) = constraint.follow([state], [token])
        answers, place = [answer for answer in answers if answer[place] == token], place + 1
    assert len(answers) == 1 and len(answers[0]) == place


@FEW
@given(data=st.data())
def test_engines_and_one_beam_write_the_same(drawn_worlds: st.SearchStrategy[World], data: st.DataObject) -> None:
    world = data.draw(drawn_worlds)
    name = data.draw(st.sampled_from(NAMES))
    asked = [data.draw(questions(world.catalogue))]
    constraint = world.constraint(name)
    native, hf = (world.answers(constraint, asked, engine=engine) for engine in ("native", "hf"))
    assert native == hf
    prompts = world.chat_format.prompts([(("user", "list 0"),)])
    starts = [constraint.start(asked[0])]
    assert beam_search(world.model, world.chat_format, prompts, 600, 1, constraint, starts)[0] == native
    assert len(world.items(native[0])) == asked[0].item_count


def test_forced_tokens_take_no_step_of_their_own(
    catalogue: Catalogue,
    chat_format: ChatFormat,
    make_model: Callable[..., PreTrainedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constraint = make_constraint(ConstraintConfig("fresh"), catalogue, chat_format)
    assert constraint is not None
    asked = Instruction(SEQUENTIAL, "u", (4,), None, 7, None, None, None, ())
    model, steps = make_model(), []
    step = RunBatch.step
    monkeypatch.setattr(RunBatch, "step", lambda batch: (steps.append(1), step(batch)))
    bound = {"constraint": constraint, "asked": [asked]}
    (answer,) = generate(model, chat_format, [[1, 20, 4, 2]], 160, "native", 0.7, **bound)
    free = [
        place
        for place in constraint.replay(constraint.start(asked), answer.tokens)
        if place is not None and len(place) > 1
    ]
    assert len(steps) == len(free) < len(answer.tokens) / 2
    cut = generate(model, chat_format, [[1, 20, 4, 2]], 25, "native", **bound)[0]
    assert cut == generate(model, chat_format, [[1, 20, 4, 2]], 25, "hf", **bound)[0]
    assert len(cut.tokens) == 25


# ---------------------------------------------------------------------- labels


def walk(constraint: Constraint, instruction: Instruction, seed: int = 0) -> list[int]:
    """An answer of tokens drawn evenly from those allowed."""
    rng = np.random.default_rng(seed)
    state, tokens = constraint.start(instruction), []
    while state is not None:
        choices = constraint.choices(state)
        assert choices is not None and len(set(choices.tolist())) == len(choices)
        tokens.append(int(rng.choice(choices)))
        (state,) = constraint.follow([state], tokens[-1:])
    return tokens


@pytest.mark.parametrize("kind", ["llama_mini", "gpt2_like", "llama3_like", "sentencepiece_like"])
@pytest.mark.parametrize("name", NAMES)
def test_what_sl_teaches_is_accepted_token_by_token(
    name: str,
    kind: str,
    catalogue: Catalogue,
    make_builder: Callable[..., InstructionBuilder],
    make_model_config: Callable[..., ModelConfig],
) -> None:
    texts = templates.specimens(catalogue.titles, catalogue.category_names)
    chat_format = ChatFormat(getattr(tokenizers, kind)(texts), make_model_config(max_response_length=512))
    constraint = make_constraint(ConstraintConfig(name), catalogue, chat_format)
    assert constraint is not None
    builder = make_builder(blend_share=0.5, candidate_share=0.3)
    lists = 0
    for example in builder.epoch(0, builder.families):
        state = constraint.start(example.instruction)
        (tokens,) = chat_format.responses([example.response])
        assert len(constraint.replay(state, tokens)) == len(tokens)
        assert (state is None) == (example.instruction.task == CHAT)
        lists += state is not None
    assert lists > 50


def test_a_state_is_a_value(catalogue: Catalogue, chat_format: ChatFormat) -> None:
    """Branches of one answer know nothing of each other."""
    constraint = make_constraint(ConstraintConfig("fresh"), catalogue, chat_format)
    assert constraint is not None
    instruction = Instruction(SEQUENTIAL, "u", (3, 9), None, 12, None, None, None, ())
    answers = [walk(constraint, instruction, seed) for seed in range(6)]
    state = constraint.start(instruction)
    states: list[Any] = [state] * len(answers)
    for tokens in itertools.zip_longest(*answers):
        going = [place for place, token in enumerate(tokens) if token is not None]
        for place in going:
            choices = constraint.choices(states[place])
            assert choices is not None and tokens[place] in choices
        after = constraint.follow([states[place] for place in going], [tokens[place] for place in going])
        for place, one in zip(going, after, strict=True):
            states[place] = one
    assert constraint.replay(state, answers[0]) and states == [None] * len(answers)


def test_catalogue_lists_may_repeat_and_hold_the_history(catalogue: Catalogue, chat_format: ChatFormat) -> None:
    constraint = make_constraint(ConstraintConfig("catalogue"), catalogue, chat_format)
    assert constraint is not None
    instruction = Instruction(SEQUENTIAL, "u", (5,), None, 3, None, None, None, ())
    answer = templates.answer([catalogue.titles[item] for item in (5, 5, 6)])
    (tokens,) = chat_format.responses([answer])
    assert len(constraint.replay(constraint.start(instruction), tokens)) == len(tokens)
    fresh = make_constraint(ConstraintConfig("fresh"), catalogue, chat_format)
    assert fresh is not None and len(fresh.replay(fresh.start(instruction), tokens)) < len(tokens)


def test_candidates_alone_may_stand(catalogue: Catalogue, chat_format: ChatFormat) -> None:
    offered = (30, 2, 17, 36, 35)
    for name in NAMES:
        constraint = make_constraint(ConstraintConfig(name), catalogue, chat_format)
        assert constraint is not None
        asked = Instruction(SEQUENTIAL, "u", (2, 4), None, 4, None, None, offered, ())
        titles = {catalogue.titles[item] for item in offered}
        for seed in range(5):
            lines = chat_format.decode(walk(constraint, asked, seed)).split("\n")
            assert [line.partition(". ")[0] for line in lines] == ["1", "2", "3", "4"]
            assert {line.partition(". ")[2] for line in lines} <= titles


def test_lists_fit_into_an_answer(
    catalogue: Catalogue, chat_format: ChatFormat, make_model_config: Callable[..., ModelConfig]
) -> None:
    """Titles that are too long for their share of the tokens are left out, so that the end is always reached."""
    short = ChatFormat(chat_format.tokenizer, make_model_config(max_response_length=60))
    constraint = make_constraint(ConstraintConfig("fresh"), catalogue, short)
    assert constraint is not None
    asked = Instruction(SEQUENTIAL, "u", (), None, 6, None, None, None, ())
    assert max(len(walk(constraint, asked, seed)) for seed in range(30)) <= 60
    with pytest.raises(
        CtrlRecError, match=r"no list of 10 items with titles of at most 4 tokens .*: 3 are left; .* raise model"
    ):
        constraint.start(replace(asked, item_count=10, history=tuple(range(12, 40))))


# ---------------------------------------------------------------------- refusals


def test_an_impossible_demand_names_category_k_and_what_is_left(
    catalogue: Catalogue, chat_format: ChatFormat, make_model_config: Callable[..., ModelConfig]
) -> None:
    inside = np.flatnonzero(catalogue.membership[catalogue.category_index["Drama"]])
    history = tuple(inside[:-2].tolist())
    wish = Condition(CONTROLS["at_least"], "Drama", 50)
    asked = Instruction(BLEND, "u", history, None, 10, None, None, None, (), (wish,))
    roomy = ChatFormat(chat_format.tokenizer, make_model_config(max_response_length=512))
    control, fresh = (make_constraint(ConstraintConfig(name), catalogue, roomy) for name in ("control", "fresh"))
    assert control is not None and fresh is not None
    left = 40 - len(history)
    said = f"no list of 10 items outside .*50% of 'Drama' takes 5 to 10 of it, and 2 of {left} items left"
    with pytest.raises(CtrlRecError, match=said):
        control.start(asked)
    assert fresh.start(asked) is not None
    with pytest.raises(CtrlRecError, match="no list of 15 items outside the history: 12 are left; ask for fewer"):
        fresh.start(Instruction(SEQUENTIAL, "u", tuple(range(28)), None, 15, None, None, None, ()))


def test_a_title_that_could_be_the_next_line_is_refused(make_model_config: Callable[..., ModelConfig]) -> None:
    titles = ("Ran", "Ran\n2. x")
    chat_format = ChatFormat(tokenizers.gpt2_like(["1. Ran\n2. Ran"]), make_model_config())
    catalogue = Catalogue(("a", "b"), titles, (("c",), ("c",)), ("c", "c"), (1, 1))
    constraint = make_constraint(ConstraintConfig("fresh"), catalogue, chat_format)
    assert constraint is not None
    with pytest.raises(CtrlRecError, match=r"the title .* begins like the title 'Ran' .* could mean both"):
        constraint.start(Instruction(SEQUENTIAL, "u", (), None, 1, None, None, None, ()))


def test_beams_are_titles_apart(
    catalogue: Catalogue, chat_format: ChatFormat, make_model: Callable[..., PreTrainedModel]
) -> None:
    constraint = make_constraint(ConstraintConfig("fresh"), catalogue, chat_format)
    assert constraint is not None
    history = tuple(range(0, 40, 3))
    asked = Instruction(SEQUENTIAL, "u", history, None, 8, None, None, None, ())
    (found,) = beam_search(make_model(), chat_format, [[1, 20, 4, 2]], 60, 8, constraint, [constraint.alone(asked)])
    items = [catalogue.title_index[chat_format.decode(row)] for row in found]
    assert len(set(items)) == len(items) == 8 and not set(items) & set(history)


def test_chat_is_free(catalogue: Catalogue, chat_format: ChatFormat) -> None:
    for name in NAMES:
        constraint = make_constraint(ConstraintConfig(name), catalogue, chat_format)
        assert constraint is not None
        assert constraint.start(Instruction(CHAT, None, (), None, 0, None, None, None, ())) is None


# ---------------------------------------------------------------------- log-probabilities


@pytest.mark.parametrize("engine", ["native", "hf"])
def test_log_probs_are_those_among_allowed_tokens(
    engine: str, catalogue: Catalogue, chat_format: ChatFormat, make_model: Callable[..., PreTrainedModel]
) -> None:
    constraint = make_constraint(ConstraintConfig("control"), catalogue, chat_format)
    assert constraint is not None
    wish = Condition(CONTROLS["about"], "Comedy", 30)
    asked = [Instruction(BLEND, "u", (1, 2), None, 6, None, None, None, (), (wish,))]
    model, prompt = make_model(), [1, 20, 30, 4, 2]
    torch.manual_seed(0)
    made = generate(model, chat_format, [prompt], 160, engine, 0.7, 3, constraint=constraint, asked=asked)
    for sample in made:
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([prompt + sample.tokens])).logits[0, len(prompt) - 1 : -1]
        places = constraint.replay(constraint.start(asked[0]), sample.tokens)
        assert len(places) == len(sample.tokens)
        for place, (tokens, choices) in enumerate(zip(sample.tokens, places, strict=True)):
            assert choices is not None
            among = torch.log_softmax(scores[place, torch.as_tensor(choices)] / 0.7, -1)
            expected = float(among[choices.tolist().index(tokens)])
            assert sample.log_probs[place] == pytest.approx(expected, abs=1e-4)
        forced = support(constraint, asked, [sample.tokens])
        assert forced is not None and forced.forced.sum() > 20
