"""An RL iteration, phase by phase, against a plain recipe.

The plain recipe is what a script would do: one greedy and one sampled ``generate`` call, three separate forward passes
over whole padded rows with logits at every position, an answer judged at a time, and learning sample by sample. It has
the same prompts, tokens, rewards, losses and number of answers an iteration, and trains the same adapters.
"""

import csv
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import Metric

from parts import sl, world

PHASES = ("rollout", "score", "learn")
METRICS = (
    Metric("seconds_an_iteration", "s", more=False, target=4),
    *(Metric(f"seconds_{phase}", "s", more=False) for phase in PHASES),
    Metric("peak_bytes", "bytes", more=False),
)
FULL = {"model": sl.FULL["model"], "prompts": 8, "new_tokens": 100, "iterations": 2, "epochs": 4}
QUICK = {"model": sl.QUICK["model"], "prompts": 2, "new_tokens": 8, "iterations": 2, "epochs": 2}


def configured(scratch: Path, sizes: world.Sizes) -> Any:
    schedule = (f"rl.prompts={sizes['prompts']}", "rl.samples_per_prompt=2", f"rl.iterations={sizes['iterations']}",
                f"rl.ppo_epochs={sizes['epochs']}", "rl.kl_stop=null", "rl.minibatches=1", "rl.warmup_iterations=0",
                f"model.max_response_length={sizes['new_tokens']}")  # fmt: skip
    return world.compose(scratch, "stage=teacher", "trainer.accelerator=cpu", *sizes["model"], *schedule)


def prepare(scratch: Path, sizes: world.Sizes) -> None:
    world.load(configured(scratch, sizes))


def ours(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    from pytorch_lightning.loggers import CSVLogger

    from ctrlrec.rl.train import align

    config = configured(scratch, sizes)
    builder, chat_format, model = world.load(config)
    with tempfile.TemporaryDirectory() as name:
        logger = CSVLogger(name, name="", version="logs", flush_logs_every_n_steps=1)
        align(config, model, chat_format, builder, Path(name), [logger])
        logger.finalize("success")
        with (Path(name) / "logs" / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["seconds/learn"]]
    seconds = {phase: [float(row[f"seconds/{phase}"]) for row in rows] for phase in PHASES}
    return summarised(seconds, [float(row["policy/tokens"]) for row in rows])


def summarised(seconds: dict[str, list[float]], tokens: list[float]) -> dict[str, Any]:
    """Means over iterations after the first, which does what is done once."""
    means = {f"seconds_{phase}": sum(values[1:]) / len(values[1:]) for phase, values in seconds.items()}
    return means | {"seconds_an_iteration": sum(means.values()), "tokens": sum(tokens[1:]) / len(tokens[1:])}


def plain(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    import torch

    from ctrlrec.lm.adapters import with_actor_and_critic
    from ctrlrec.runtime.hardware import autocast

    config = configured(scratch, sizes)
    builder, chat_format, model = world.load(config)
    torch.manual_seed(config.seed)
    model = with_actor_and_critic(model, config.rl.lora_rank, config.rl.lora_alpha).eval()
    head = torch.nn.Linear(model.get_base_model().config.hidden_size, 1)
    optimizer = torch.optim.Adam(
        [*(weight for weight in model.parameters() if weight.requires_grad), *head.parameters()],
        lr=config.rl.learning_rate,
    )
    seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name].append(time.perf_counter() - started)

    tokens = []
    with autocast(config.trainer):
        for iteration in range(sizes["iterations"]):
            with phase("rollout"):
                answers = sampled(config, builder, chat_format, model, iteration)
            with phase("score"):
                batch = scored(config, chat_format, model, head, answers)
            with phase("learn"):
                learnt(config, model, head, optimizer, batch)
            tokens.append(float(sum(len(answer) for _, answer, _, _ in answers)))
    return summarised(seconds, tokens)


def sampled(config: Any, builder: Any, chat_format: Any, model: Any, iteration: int) -> list[tuple[Any, ...]]:
    """Two answers to each prompt by two calls, judged one at a time: (prompt, tokens, earned, places)."""
    from ctrlrec.generation.by_transformers import by_transformers
    from ctrlrec.lm.adapters import ACTOR, using
    from ctrlrec.lm.parsing import last_tokens, written_items
    from ctrlrec.rewards.judging import judge
    from ctrlrec.rewards.reward import Reward

    reward, settings = Reward(config.reward), config.rl
    asked = builder.rollout_prompts(iteration, settings.prompts, (settings.item_count_min, settings.item_count_max))
    prompts = chat_format.prompts([instruction.messages for instruction in asked])
    limit = {"max_new_tokens": config.model.max_response_length}
    with using(model, ACTOR):
        greedy, _ = by_transformers(model, chat_format, prompts, do_sample=False, **limit)
        drawn = {"do_sample": True, "temperature": settings.temperature, "top_k": 0}
        others, _ = by_transformers(model, chat_format, prompts, **drawn, **limit)
    answers = []
    for instruction, prompt, tokens in zip(asked * 2, prompts * 2, greedy + others, strict=True):
        text = chat_format.decode(tokens)
        written = written_items(text)
        (judgement,) = judge([instruction], [[item.title for item in written]], builder.catalogue, builder.ranker)
        places = last_tokens(chat_format.written, tokens, text, [item.end for item in written])
        earned = reward.credit(reward.item(judgement), reward.list(judgement), judgement)
        answers.append((prompt, tokens, earned, (*places, len(tokens) - 1)))
    return answers


def forward(model: Any, head: Any, adapter: str | None, ids: Any, mask: Any) -> tuple[Any, Any]:
    """Logits and values at every position of whole rows."""
    from ctrlrec.lm.adapters import using

    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with using(model, adapter):
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, output_hidden_states=True)
    return out.logits.float(), head(out.hidden_states[-1].float()).squeeze(-1)


def log_probs(logits: Any, ids: Any, temperature: float) -> Any:
    """Of every token after the first, (B, L - 1)."""
    return (logits[:, :-1] / temperature).log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def scored(config: Any, chat_format: Any, model: Any, head: Any, answers: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Three forward passes over the padded batch, rewards on their tokens, advantages."""
    import torch

    from ctrlrec.lm.adapters import ACTOR, CRITIC
    from ctrlrec.lm.scoring import pad
    from ctrlrec.rewards.credit import place
    from ctrlrec.rl import losses as ppo

    settings = config.rl
    ids, mask = pad([prompt + tokens for prompt, tokens, _, _ in answers], chat_format.pad)
    starts = torch.tensor([len(prompt) for prompt, *_ in answers])
    acting = (mask[:, 1:] * (torch.arange(1, ids.shape[1]) >= starts[:, None])).float()
    with torch.no_grad():
        actor = log_probs(forward(model, head, ACTOR, ids, mask)[0], ids, settings.temperature)
        reference = log_probs(forward(model, head, None, ids, mask)[0], ids, settings.temperature)
        values = forward(model, head, CRITIC, ids, mask)[1][:, :-1] * acting
        placed = place(
            [items for _, _, (items, _), _ in answers],
            [end for _, _, (_, end), _ in answers],
            [[len(prompt) - 1 + at for at in places] for prompt, _, _, places in answers],
            acting.shape[1],
        )
        rewards = ppo.penalised_rewards(placed, actor, reference, acting, settings.kl_coefficient)
        rewards = ppo.whiten(rewards, acting, shift_mean=False)
        advantages, returns = ppo.advantages_and_returns(rewards, values, acting, settings.gamma, settings.gae_lambda)
        advantages = ppo.whiten(advantages, acting, shift_mean=True)
    return {"ids": ids, "mask": mask, "acting": acting, "actor": actor, "advantages": advantages, "returns": returns}


def learnt(config: Any, model: Any, head: Any, optimizer: Any, batch: dict[str, Any]) -> None:
    """Epochs over the answers, one at a time with their padding; a step after each epoch."""
    import torch

    from ctrlrec.lm.adapters import ACTOR, CRITIC
    from ctrlrec.rl import losses as ppo

    settings, total = config.rl, batch["acting"].sum()
    for _ in range(settings.ppo_epochs):
        optimizer.zero_grad()
        for row in range(len(batch["ids"])):
            one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
            logits, _ = forward(model, head, ACTOR, one["ids"], one["mask"])
            now = log_probs(logits, one["ids"], settings.temperature)
            loss, _, _ = ppo.policy_loss(now, one["actor"], one["advantages"], settings.clip)
            scores = (logits[:, :-1] / settings.temperature).log_softmax(-1)
            entropy = -(scores.exp() * scores).sum(-1)
            (((loss - settings.entropy_coefficient * entropy) * one["acting"]).sum() / total).backward()
            _, values = forward(model, head, CRITIC, one["ids"], one["mask"])
            error = 0.5 * (values[:, :-1] - one["returns"]) ** 2
            (settings.value_coefficient * (error * one["acting"]).sum() / total).backward()
        torch.nn.utils.clip_grad_norm_([w for g in optimizer.param_groups for w in g["params"]], settings.gradient_clip)
        optimizer.step()


SIDES = {"ours": ours, "peer": plain}
