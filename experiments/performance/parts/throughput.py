"""Instructions built and answers rewarded a second, the teacher's ranks included; the peer takes them one at a time."""

import time
from pathlib import Path
from typing import Any

from measuring import Metric

from parts import world

METRICS = (
    Metric("instructions_per_second", "instructions/s", aim=20_000),
    Metric("prompts_per_second", "prompts/s"),
    Metric("answers_per_second", "answers/s", aim=20_000),
)
FULL = {"prompts": 4096, "epochs": 2}
QUICK = {"prompts": 64, "epochs": 1}


def configured(scratch: Path) -> Any:
    return world.compose(scratch, "stage=teacher", "trainer.accelerator=cpu")


def prepare(scratch: Path, sizes: world.Sizes) -> None:
    world.directories(configured(scratch))


def measured(scratch: Path, sizes: world.Sizes, size: int) -> dict[str, Any]:
    """Rates at ``size`` users, prompts or answers at once."""
    from ctrlrec.lm.parsing import written_items
    from ctrlrec.pipeline.loading import load_builder
    from ctrlrec.rewards.judging import judge
    from ctrlrec.rewards.reward import Reward

    config = configured(scratch)
    builder, _ = load_builder(config, world.directories(config))
    builder.ranker.at_once = size
    reward, families = Reward(config.reward), ("sequential", "category", "proportion", "search")
    builder.rollout_prompts(0, 4, (5, 10))  # what is done once

    started = time.perf_counter()
    examples = [example for epoch in range(sizes["epochs"]) for example in builder.epoch(epoch, families)]
    epoch_seconds = time.perf_counter() - started

    started = time.perf_counter()
    for call in range(sizes["prompts"] // size):
        builder.rollout_prompts(call, size, (5, 10))
    prompt_seconds = time.perf_counter() - started

    asked = [example for example in examples if example.instruction.user is not None][: sizes["prompts"]]
    # Each answer is the one to the question before it: legal and illegal items, in and out of the category.
    texts = [example.response for example in [asked[-1], *asked[:-1]]]
    started = time.perf_counter()
    for begin in range(0, len(asked), size):
        written = [written_items(text) for text in texts[begin : begin + size]]
        instructions = [example.instruction for example in asked[begin : begin + size]]
        titles = [[item.title for item in items] for items in written]
        for judgement in judge(instructions, titles, builder.catalogue, builder.ranker):
            reward.item(judgement), reward.list(judgement)
    answer_seconds = time.perf_counter() - started
    return {
        "instructions_per_second": len(examples) / epoch_seconds,
        "prompts_per_second": sizes["prompts"] // size * size / prompt_seconds,
        "answers_per_second": len(asked) / answer_seconds,
    }


def ours(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    return measured(scratch, sizes, min(1024, sizes["prompts"]))


def one_at_a_time(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    return measured(scratch, sizes, 1)


SIDES = {"ours": ours, "peer": one_at_a_time}
