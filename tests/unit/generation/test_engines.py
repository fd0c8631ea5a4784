"""What every engine promises, asked of each of them: vLLM is a stand-in, the server one on loopback."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from answering import engine_of
from chat_server import Server, completion, send, serving
from omegaconf import OmegaConf
from steps_constraint import asking, plugged_in
from transformers import PreTrainedModel
from vllm_stand_in import install_stand_in

from ctrlrec.config.compose import compose
from ctrlrec.config.engines import check_engine
from ctrlrec.config.schema import APIConfig
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines import ENGINES
from ctrlrec.generation.engines.base import Engine, Prompt, Sample, in_order
from ctrlrec.lm.chat_format import ChatFormat

Make = Callable[..., Engine]
EVERY = sorted(ENGINES)
SAMPLING = [name for name in EVERY if ENGINES[name].samples]
CONSTRAINED = [name for name in EVERY if ENGINES[name].constrainable]
ROWS = [[1, 20, 30, 4, 2], [1, 77, 4, 2], [1, 90, 91, 92, 93, 94, 95, 4, 2], [1, 4, 2], [1, 50, 4, 2]]


def question(number: int) -> Instruction:
    return Instruction("chat", None, (), None, 0, None, None, None, (("user", f"question {number}"),))


ASKED = [Prompt(row, question(number)) for number, row in enumerate(ROWS)]


@pytest.fixture
def model(make_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return make_model()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def make(
    model: PreTrainedModel, chat_format: ChatFormat, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Make:
    """Engines with the same model; the server's texts are those of the native engine."""
    install_stand_in(monkeypatch)

    def answered(handler: Any, request: dict[str, Any]) -> None:
        number = int(request["messages"][-1]["content"].split()[-1])
        (sample,) = in_order(engine_of("native", model, chat_format, request["max_tokens"]).answers([ASKED[number]]))
        send(handler, 200, completion(chat_format.decode(sample.tokens)))

    server.otherwise = answered
    api = APIConfig("test", server.url, "parrot", None, 3, 5.0, 1, 0.01, 1.0, None, None)

    def make(name: str, limit: int = 12, **settings: Any) -> Engine:
        return engine_of(name, model, chat_format, limit, api=api, kept=tmp_path / "kept", **settings)

    return make


def log_probs(model: PreTrainedModel, prompt: list[int], sample: Sample, temperature: float) -> torch.Tensor:
    """Log-probabilities of an answer's tokens, (T,), by one forward pass."""
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([prompt + sample.tokens])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(scores / temperature, -1).gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]


@pytest.mark.parametrize("name", EVERY)
def test_greedy_is_that_of_native(make: Make, name: str) -> None:
    with make("native") as native, make(name) as engine:
        expected, found = (in_order(one.answers(ASKED)) for one in (native, engine))
        assert [engine.text(sample) for sample in found] == [native.text(sample) for sample in expected]
        if ENGINES[name].reads_model:
            assert found == expected and {value for one in found for value in one.log_probs} == {0.0}
            assert engine.prompts([question(1)])[0].tokens == native.prompts([question(1)])[0].tokens
        assert list(engine.answers([])) == []


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_log_probs_are_those_of_a_forward_pass(
    make: Make, model: PreTrainedModel, name: str, temperature: float
) -> None:
    torch.manual_seed(0)
    with make(name) as engine:
        answers = list(engine.answers(ASKED, 3, temperature))
    assert sorted(place for place, _ in answers) == list(range(15))
    assert len({tuple(sample.tokens) for _, sample in answers}) > 12
    for place, sample in answers:
        expected = log_probs(model, ROWS[place // 3], sample, temperature)
        torch.testing.assert_close(torch.tensor(sample.log_probs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", EVERY)
def test_samples_of_a_prompt_lie_side_by_side(make: Make, name: str) -> None:
    """Greedy samples are equal, so that each place tells which prompt it belongs to."""
    with make(name, batch_size=2) as engine:
        alone = in_order(engine.answers(ASKED))
        answers = list(engine.answers(ASKED, 2))
    assert sorted(place for place, _ in answers) == list(range(10))
    assert all(sample == alone[place // 2] for place, sample in answers)
    assert len({(sample.text, *sample.tokens) for sample in alone}) > 3


@pytest.mark.parametrize("name", EVERY)
def test_an_answer_stops_at_its_end_or_at_the_limit(make: Make, chat_format: ChatFormat, name: str) -> None:
    torch.manual_seed(0)
    temperature, samples = (5.0, 6) if ENGINES[name].samples else (None, 1)
    with make(name, 25, batch_size=30) as engine:
        answers = in_order(engine.answers(ASKED, samples, temperature))
    if not ENGINES[name].reads_model:
        return
    lengths = {len(sample.tokens) for sample in answers}
    assert min(lengths) < max(lengths) == 25
    for sample in answers:
        assert chat_format.end not in sample.tokens[:-1]
        assert len(sample.tokens) == 25 or sample.tokens[-1] == chat_format.end


def test_a_server_is_told_the_limit_and_the_ends(make: Make, server: Server) -> None:
    with make("api", 7, stop=("<end>",)) as engine:
        list(engine.answers(ASKED[:2]))
        assert [(sent["max_tokens"], sent["stop"]) for sent in server.requests] == [(7, ["<end>"])] * 2
        assert engine.report()["answers"] == 2
        with pytest.raises(CtrlRecError, match="this prompt has ids alone"):
            list(engine.answers([Prompt([1, 2])]))


@pytest.fixture
def steps(tmp_path: Path, catalogue: Catalogue, chat_format: ChatFormat) -> Iterator[Constraint]:
    with plugged_in(tmp_path, catalogue, chat_format) as constraint:
        yield constraint


def counting(*counts: int) -> list[Prompt]:
    """Prompts of one length; ``steps`` ends an answer after 6 tokens more than the count, and fails at 5."""
    return [Prompt([1, 20 + place, 4, 2], asking(count)) for place, count in enumerate(counts)]


@pytest.mark.parametrize("name", CONSTRAINED)
def test_a_constraint_holds(make: Make, steps: Constraint, model: PreTrainedModel, name: str) -> None:
    prompts = counting(1, 2, 3, 4)
    torch.manual_seed(0)
    with make(name) as engine:
        greedy = in_order(engine.answers(prompts, constraint=steps))
        drawn = in_order(engine.answers(prompts, 3, 0.7, steps))
    assert greedy == in_order(make("native").answers(prompts, constraint=steps))
    for place, sample in [(3 * place, sample) for place, sample in enumerate(greedy)] + list(enumerate(drawn)):
        state = steps.start(asking(place // 3 + 1))
        assert len(steps.replay(state, sample.tokens)) == len(sample.tokens) == min(place // 3 + 8, 12)
    for place, sample in enumerate(drawn):
        row = torch.tensor([prompts[place // 3].tokens + sample.tokens])
        with torch.no_grad():
            scores = model(input_ids=row).logits[0, 3:-1] / 0.7
        choices = steps.replay(steps.start(asking(place // 3 + 1)), sample.tokens)
        for step, (token, tokens) in enumerate(zip(sample.tokens, choices, strict=True)):
            among = torch.log_softmax(scores[step, torch.as_tensor(tokens)], -1)
            assert sample.log_probs[step] == pytest.approx(float(among[list(tokens).index(token)]), abs=1e-5)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_finished_answers_survive_what_stops_the_others(make: Make, steps: Constraint, name: str) -> None:
    prompts = counting(1, 1, 1, 1, 5)
    expected = in_order(make(name).answers(prompts[:4], constraint=steps))
    finished: dict[int, Sample] = {}
    with make(name, batch_size=1) as engine, pytest.raises(CtrlRecError, match=r"Written\(rest=5, tokens=4\)"):
        for place, sample in engine.answers(prompts, constraint=steps):
            finished[place] = sample
    assert len(finished) >= 3
    assert all(sample == expected[place] for place, sample in finished.items())


def test_answers_of_a_server_survive_a_request_that_fails(make: Make, server: Server) -> None:
    answered = server.otherwise

    def failing(handler: Any, request: dict[str, Any]) -> None:
        if request["messages"][-1]["content"].endswith("3"):
            send(handler, 404, "no such question")
        else:
            answered(handler, request)

    server.otherwise = failing
    finished = {}
    with make("api") as engine, pytest.raises(CtrlRecError, match="404 no such question"):
        for place, sample in engine.answers(ASKED):
            finished[place] = sample
    assert 1 <= len(finished) < 5 and 3 not in finished
    sent = len(server.requests)
    with make("api") as engine:  # they are kept, so that they are not paid again
        assert dict(engine.answers([ASKED[place] for place in finished])) == dict(enumerate(finished.values()))
    assert len(server.requests) == sent


@pytest.mark.parametrize("name", EVERY)
def test_whoever_takes_the_answers_is_left_alone(make: Make, name: str) -> None:
    """Between two answers neither gradients nor autocast are switched, and the rest need not be taken."""
    weight = torch.ones(2, 2, requires_grad=True)
    with make(name, batch_size=1) as engine, torch.autocast("cpu", torch.bfloat16):
        answers = engine.answers(ASKED)
        next(answers)
        assert torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()
        (weight @ weight).sum().backward()
        answers.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted({*EVERY} - {*SAMPLING}))
def test_samples_are_refused_before_anything_is_asked(make: Make, server: Server, name: str) -> None:
    with make(name) as engine, pytest.raises(CtrlRecError, match=f"generation.engine={name}: it gives no log-prob"):
        engine.answers(ASKED, 2, 0.7)
    assert not server.requests


@pytest.mark.parametrize("name", sorted({*EVERY} - {*CONSTRAINED}))
def test_a_constraint_is_refused_before_anything_is_asked(
    make: Make, steps: Constraint, server: Server, name: str
) -> None:
    with make(name) as engine, pytest.raises(CtrlRecError, match=r"constraint\.name=steps: its answers cannot be"):
        engine.answers(counting(1), constraint=steps)
    assert not server.requests


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("generation.engine=vllm", "model=flan_t5_xl", "variant=v2"), "encoder-decoders need auto, hf or api"),
        (("generation.engine=vllm", "variant=instructrec"), "beams are searched by transformers"),
        (("generation.engine=api", "variant=instructrec"), "beams are searched by transformers"),
        (("generation.engine=api", "constraint=fresh"), "its answers cannot be constrained"),
        (("variant=api", "constraint=fresh"), r"generation\.engine=api: its answers cannot be constrained"),
        (("generation.engine=vlm",), "generation.engine=vlm: did you mean 'vllm'"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_with_the_configuration(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        compose(*words)


def test_a_plugin_that_cannot_sample_is_refused_for_rl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "generation" / "engines"
    home.mkdir(parents=True)
    (home / "dull.py").write_text(
        "from ctrlrec.generation.engines.hf import HF\n\n\n"
        "class Dull(HF):\n    samples = False\n    constrainable = False\n\n\nENGINE = Dull\n"
    )
    monkeypatch.setenv("CTRLREC_PLUGINS", str(tmp_path))
    monkeypatch.delitem(sys.modules, "ctrlrec.generation.engines.dull", raising=False)
    config = compose("generation.engine=dull", "variant=v2")
    OmegaConf.set_readonly(config, False)
    config.variant.rl = True
    with pytest.raises(CtrlRecError, match=r"variant=v2 generation\.engine=dull: it gives no log-probabilities"):
        check_engine(config)
    ENGINES["dull"].samples = True
    config.constraint.name, config.rl.constrained, config.evaluation.constrained = "fresh", True, False
    with pytest.raises(CtrlRecError, match=r"rl\.constrained=true generation\.engine=dull"):
        check_engine(config)
