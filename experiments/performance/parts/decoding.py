"""Decoding against transformers' ``generate``: a greedy batch, and rollouts for which the peer calls it per sample."""

import time
from pathlib import Path
from typing import Any

from measuring import Metric

from parts import sl, world

METRICS = (
    Metric("greedy_tokens_per_second", "tokens/s", target=3),
    Metric("rollout_tokens_per_second", "tokens/s", target=3),
    Metric("peak_bytes", "bytes", more=False),
)
FULL = {"model": sl.FULL["model"], "batch": 16, "new_tokens": 100, "prompts": 8, "samples": 2, "exact": 32}
QUICK = {"model": sl.QUICK["model"], "batch": 4, "new_tokens": 8, "prompts": 2, "samples": 2, "exact": 8}


def configured(scratch: Path, sizes: world.Sizes) -> Any:
    return world.compose(scratch, "stage=teacher", "trainer.accelerator=cpu", *sizes["model"])


def prepare(scratch: Path, sizes: world.Sizes) -> None:
    world.load(configured(scratch, sizes))


def measured(scratch: Path, sizes: world.Sizes, engine: str, at_once: bool) -> dict[str, Any]:
    """Both workloads by one engine.

    Args:
        scratch: of the suite.
        sizes: of the part.
        engine: ``generation.engine``.
        at_once: whether all samples of a rollout are one call; otherwise each is one.
    """
    import torch

    from ctrlrec.generation.engines import Setup, make_engine
    from ctrlrec.generation.engines.base import in_order
    from ctrlrec.lm.adapters import ACTOR, using, with_actor_and_critic
    from ctrlrec.runtime.hardware import autocast

    config = configured(scratch, sizes)
    builder, chat_format, model = world.load(config)
    torch.manual_seed(config.seed)
    model = with_actor_and_critic(model, config.rl.lora_rank, config.rl.lora_alpha).eval()
    asked = builder.rollout_prompts(0, max(sizes["batch"], sizes["prompts"]), (10, 10))
    prompts = make_engine(engine, Setup(chat_format, 1, model)).prompts(asked)
    few, temperature = prompts[: sizes["prompts"]], config.rl.temperature

    def greedy(limit: int) -> list[list[int]]:
        made = make_engine(engine, Setup(chat_format, limit, model, sizes["batch"]))
        return [row.tokens for row in in_order(made.answers(prompts[: sizes["batch"]]))]

    def rollout(limit: int) -> list[list[int]]:
        made = make_engine(engine, Setup(chat_format, limit, model))
        calls = (
            [(few, sizes["samples"])] if at_once else [([prompt], 1) for prompt in few for _ in range(sizes["samples"])]
        )
        return [row.tokens for asked, samples in calls for row in in_order(made.answers(asked, samples, temperature))]

    result: dict[str, Any] = {}
    with using(model, ACTOR), autocast(config.trainer):
        for name, work in (("greedy", greedy), ("rollout", rollout)):
            work(2)  # what is done once
            started = time.perf_counter()
            answers = work(sizes["new_tokens"])
            seconds = time.perf_counter() - started
            result[f"{name}_tokens_per_second"] = sum(map(len, answers)) / seconds
            result[f"{name}_seconds_a_step"] = seconds / max(map(len, answers))
            result[f"{name}_tokens"] = answers if name == "greedy" else sum(map(len, answers))
    # In bfloat16 two likeliest tokens are often equal and the kernel decides: float32 says whether the engines agree.
    torch.set_float32_matmul_precision("highest")
    model.float()
    with using(model, ACTOR):
        result["exact_tokens"] = greedy(sizes["exact"])
    result["weights"] = sum(weight.numel() for name, weight in model.named_parameters() if ".lora_" not in name)
    return result


def ours(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    return measured(scratch, sizes, "auto", True)


def hf(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    return measured(scratch, sizes, "hf", False)


def check(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """How many greedy answers are the same token by token."""
    ours, peer = runs["ours"][0], runs["peer"][0]
    said = {}
    for name, key in (("float32", "exact_tokens"), ("the_measured_precision", "greedy_tokens")):
        same = sum(left == right for left, right in zip(ours[key], peer[key], strict=True))
        said[f"identical_greedy_answers_in_{name}"] = f"{same} of {len(ours[key])}"
    return said


SIDES = {"ours": ours, "peer": hf}
