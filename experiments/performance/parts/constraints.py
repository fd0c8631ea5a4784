"""Work on masks under constraint=fresh: its share of a decoding step, and answers a second without any model."""

import random
import time
from pathlib import Path
from typing import Any

from measuring import Metric

from parts import world

METRICS = (
    Metric("share_of_a_step", "of a decoding step", more=False, aim=0.1),
    Metric("answers_per_second", "answers/s", aim=5000),
    Metric("answers_per_second_control", "answers/s", aim=5000),
)
FULL = {"decoded": 20_000, "masked": 100_000, "batch": 64, "steps": 100, "answers": 500}
QUICK = {"decoded": 300, "masked": 500, "batch": 4, "steps": 6, "answers": 20}
_SYLLABLES = ["ka", "lo", "mer", "tin", "sha", "dor", "vel", "ni", "pra", "gus", "ton", "ri", "bel", "os", "fen"]


def prepare(scratch: Path, sizes: world.Sizes) -> None:
    """Nothing is needed."""


def catalogue(count: int) -> Any:
    """Films whose titles share words as real ones do; 18 categories."""
    from ctrlrec.data.catalogue import Catalogue

    rng = random.Random(0)
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))).capitalize() for _ in range(3000)]
    weights = [1 / (place + 5) for place in range(len(words))]
    titles: dict[str, None] = {}
    while len(titles) < count:
        name = " ".join(rng.choices(words, weights, k=rng.randint(1, 4)))
        titles["The " * (rng.random() < 0.2) + f"{name} ({rng.randint(1930, 2000)})"] = None
    categories = tuple(tuple(rng.sample([f"Kind {kind}" for kind in range(18)], rng.randint(1, 3))) for _ in titles)
    ids = tuple(f"i{item}" for item in range(count))
    return Catalogue(ids, tuple(titles), categories, tuple(names[0] for names in categories), (1,) * count)


def formatted(films: Any, config: Any) -> Any:
    """The prompt format of llama_mini, its tokenizer trained on some of the titles."""
    from ctrlrec.instructions import templates
    from ctrlrec.lm.backbone import train_tokenizer
    from ctrlrec.lm.chat_format import ChatFormat

    texts = templates.specimens(films.titles[:20_000], films.category_names)
    return ChatFormat(train_tokenizer(texts, config.model.vocabulary), config.model)


def asked(films: Any, count: int, controls: bool) -> list[Any]:
    """Questions with ten items of history, for ten; with controls each with a condition on a category."""
    from ctrlrec.controls.instruction import Condition, Instruction
    from ctrlrec.controls.registry import BLEND, CONTROLS, SEQUENTIAL

    rng, questions = random.Random(1), []
    for _ in range(count):
        control = CONTROLS[rng.choice(("positive", "negative", "at_most", "at_least", "about"))]
        wish = Condition(control, rng.choice(films.category_names), 30 if control.takes_percent else None)
        history = tuple(rng.sample(range(len(films)), 10))
        task, blend = (BLEND, (wish,)) if controls else (SEQUENTIAL, ())
        questions.append(Instruction(task, "u", history, None, 10, None, None, None, (), blend))
    return questions


def masked(films: Any, chat_format: Any, name: str, count: int) -> float:
    """Answers a second of one core: states, allowed tokens and their choice at random, without any model."""
    from ctrlrec.config.schema import ConstraintConfig
    from ctrlrec.generation.constraints import make_constraint

    constraint: Any = make_constraint(ConstraintConfig(name), films, chat_format)
    rng = random.Random(2)
    seconds = 0.0
    for turn, questions in enumerate((asked(films, count, name == "control"),) * 2):
        started = time.process_time()  # whatever else the machine does
        states = [constraint.start(question) for question in questions]
        while states:
            allowed = [constraint.choices(state) for state in states]
            tokens = [int(choices[int(rng.random() * len(choices))]) for choices in allowed]
            states = [state for state in constraint.follow(states, tokens) if state is not None]
        seconds = time.process_time() - started if turn else 0.0  # the first turn does what is done once
    return count / seconds


def share_of_a_step(films: Any, config: Any, scratch: Path, sizes: world.Sizes) -> float:
    """The time in which allowed tokens are named, restricted to and followed, in that of decoding a batch."""
    import torch

    from ctrlrec.config.schema import ConstraintConfig
    from ctrlrec.generation.constraints import make_constraint
    from ctrlrec.generation.decoder.decode import decode
    from ctrlrec.lm.backbone import load_model
    from ctrlrec.runtime.hardware import autocast

    chat_format = formatted(films, config)
    model = load_model(config.model, scratch, chat_format.tokenizer, 0).eval()
    constraint: Any = make_constraint(ConstraintConfig("fresh"), films, chat_format)
    spent = 0.0

    def timed(work: Any) -> Any:
        def run(*arguments: Any) -> Any:
            nonlocal spent
            started = time.perf_counter()
            found = work(*arguments)
            spent += time.perf_counter() - started
            return found

        return run

    constraint.restrict, constraint.follow = timed(constraint.restrict), timed(constraint.follow)
    questions = asked(films, sizes["batch"], False)
    prompts = chat_format.prompts([(("user", "x " * 100),)] * sizes["batch"])
    share = 0.0
    for _ in range(2):  # the first turn does what is done once
        starts = [constraint.start(question) for question in questions]
        torch.manual_seed(0)
        spent, started = 0.0, time.perf_counter()
        with autocast(config.trainer):
            bound = {"constraint": constraint, "starts": starts}
            list(decode(model, prompts, chat_format.ends, sizes["steps"], 1.0, **bound))  # it yields answers
        share = spent / (time.perf_counter() - started)
    return share


def ours(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    from ctrlrec.runtime.hardware import prepare_hardware

    config = world.compose(scratch, "trainer.accelerator=cpu")
    prepare_hardware(config.trainer)
    share = share_of_a_step(catalogue(sizes["decoded"]), config, scratch, sizes)
    films = catalogue(sizes["masked"])
    chat_format = formatted(films, config)
    return {
        "share_of_a_step": share,
        "answers_per_second": masked(films, chat_format, "fresh", sizes["answers"]),
        "answers_per_second_control": masked(films, chat_format, "control", sizes["answers"]),
    }


SIDES = {"ours": ours}
