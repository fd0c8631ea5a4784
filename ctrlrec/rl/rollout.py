"""Rollouts: sampled answers, judged and rewarded, with rewards placed on the tokens that earned them."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines import Engine
from ctrlrec.generation.engines.base import Prompt, in_order
from ctrlrec.generation.sample import Sample
from ctrlrec.lm.parsing import last_tokens, written_items
from ctrlrec.rewards.credit import place
from ctrlrec.rewards.judging import Judgement, judge
from ctrlrec.rewards.reward import Reward
from ctrlrec.runtime.files import json_line, write_jsonl
from ctrlrec.teacher.ranker import Ranker


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer with everything that its reward rests on.

    Attributes:
        prompt: prompt ids.
        tokens: generated ids, the end-of-sequence token included.
        log_probs: of each token, as the decoder computed it.
        text: their decoding.
        titles: items as written.
        judgement: the verdict on each.
        item_rewards: R_item of each before its weight.
        list_reward: R_list before its weight.
        reward_at: generated-token index of each item reward, then of the list reward.
        greedy: whether it was decoded greedily and not sampled.
    """

    prompt: list[int]
    tokens: list[int]
    log_probs: list[float]
    text: str
    titles: tuple[str, ...]
    judgement: Judgement
    item_rewards: tuple[float, ...]
    list_reward: float
    reward_at: tuple[int, ...]
    greedy: bool = False

    def record(self, iteration: int, sample: int, catalogue: Catalogue) -> dict[str, Any]:
        """Return one line of ``rollouts.jsonl`` (spec section 9)."""
        judged = self.judgement
        shown = judged.instruction.record(catalogue)
        del shown["prompt"]
        return {
            "iteration": iteration,
            "sample": sample,
            **shown,
            "response": self.text,
            "titles": list(self.titles),
            "items": [None if item is None else catalogue.titles[item] for item in judged.items],
            "teacher_rank": list(judged.ranks),
            "illegal": list(judged.illegal),
            "item_reward": list(self.item_rewards),
            "list_reward": self.list_reward,
            "tokens": len(self.tokens),
            "reward_at": list(self.reward_at),
            **({"greedy": True} if self.greedy else {}),
        }


class Sampler:
    """Answers to prompts, judged and rewarded.

    Args:
        engine: answers.
        catalogue: titles and categories.
        ranker: the teacher.
        reward: what answers earn.
        constraint: what may be written; None for anything.
    """

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        ranker: Ranker,
        reward: Reward,
        constraint: Constraint | None = None,
    ):
        self.engine, self.catalogue, self.ranker, self.reward = engine, catalogue, ranker, reward
        self.chat_format, self.constraint = engine.setup.chat_format, constraint

    def __call__(
        self, prompts: Sequence[Prompt], temperature: float | None, samples: int = 1, greedy_row: bool = False
    ) -> list[Answer]:
        """Return answers of the model as it is now, in evaluation mode; those to one prompt lie side by side.

        Args:
            prompts: B prompts of the engine, with their instructions.
            temperature: of sampling; None for greedy answers.
            samples: answers to each.
            greedy_row: add a greedy answer after the samples of each prompt.
        """
        drawn = in_order(self.engine.answers(prompts, samples, temperature, self.constraint))
        rows = [(sample, temperature is None) for sample in drawn]
        if greedy_row:
            likeliest = in_order(self.engine.answers(prompts, constraint=self.constraint))
            groups = [rows[begin : begin + samples] for begin in range(0, len(rows), samples)]
            rows = [row for group, one in zip(groups, likeliest, strict=True) for row in (*group, (one, True))]
        each = samples + greedy_row
        return self.judged([prompt for prompt in prompts for _ in range(each)], rows)

    def judged(self, prompts: Sequence[Prompt], rows: Sequence[tuple[Sample, bool]]) -> list[Answer]:
        """Return one answer to each prompt; a row is what was generated, and whether greedily."""
        instructions = [prompt.instruction for prompt in prompts if prompt.instruction is not None]
        texts = [self.chat_format.decode(sample.tokens) for sample, _ in rows]
        written = [written_items(text) for text in texts]
        titles = [[item.title for item in items] for items in written]
        judgements = judge(instructions, titles, self.catalogue, self.ranker)
        answers = []
        for prompt, (sample, greedy), text, items, judgement in zip(
            prompts, rows, texts, written, judgements, strict=True
        ):
            tokens = sample.tokens
            ends = last_tokens(self.chat_format.written, tokens, text, [item.end for item in items])
            answers.append(
                Answer(
                    prompt.tokens,
                    tokens,
                    sample.log_probs,
                    text,
                    tuple(item.title for item in items),
                    judgement,
                    tuple(self.reward.item(judgement)),
                    self.reward.list(judgement),
                    (*ends, len(tokens) - 1),
                    greedy,
                )
            )
        return answers


class Rollouts:
    """The file ``rollouts.jsonl``, written iteration by iteration.

    Args:
        path: of the file.
        catalogue: turns items into titles.
    """

    def __init__(self, path: Path, catalogue: Catalogue):
        self.path, self.catalogue = path, catalogue

    def add(self, iteration: int, answers: Sequence[Answer], answers_per_prompt: int) -> None:
        """Append the answers of an iteration, numbered within their prompt."""
        with self.path.open("a", encoding="utf-8") as file:
            for place, answer in enumerate(answers):
                file.write(json_line(answer.record(iteration, place % answers_per_prompt, self.catalogue)))

    def cut(self, iterations: int) -> None:
        """Keep the rows of that many iterations; a kill may have cut the last line."""
        if self.path.exists():
            # Not splitlines: a title may hold one of the other line separators of Unicode.
            lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
            rows = [json.loads(line) for line in lines]
            write_jsonl(self.path, [row for row in rows if row["iteration"] < iterations])


def placed_rewards(answers: Sequence[Answer], reward: Reward) -> torch.Tensor:
    """Return the weighted rewards on tokens, (B, T)."""
    credits = [reward.credit(answer.item_rewards, answer.list_reward, answer.judgement) for answer in answers]
    return place(
        [at_items for at_items, _ in credits],
        [at_end for _, at_end in credits],
        [answer.reward_at for answer in answers],
        max(len(answer.tokens) for answer in answers),
    )


def summary(answers: Sequence[Answer], reward: Reward) -> dict[str, float]:
    """Return means to log for one iteration: rewards, overall and per task, and shares of illegal items.

    They are those of the sampled answers; greedy ones are summed up beside them, as ``greedy/``.
    """
    greedy = [answer for answer in answers if answer.greedy]
    answers = [answer for answer in answers if not answer.greedy]
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[""].append(answer)
        groups[f"_{answer.judgement.instruction.task}"].append(answer)
    means: dict[str, float] = {}
    for name, members in groups.items():
        items = [sum(answer.item_rewards) for answer in members]
        lists = [answer.list_reward for answer in members]
        means[f"reward/item{name}"] = sum(items) / len(members)
        means[f"reward/list{name}"] = sum(lists) / len(members)
        means[f"reward/total{name}"] = reward.total([means[f"reward/item{name}"]], means[f"reward/list{name}"])
    kinds = Counter(reason for answer in answers for reason in answer.judgement.illegal)
    written = max(1, sum(kinds.values()))
    for reason in ("nonexistent", "repeat", "history", "excess"):
        means[f"illegal/{reason}"] = kinds[reason] / written
    means["illegal/any"] = 1 - kinds[None] / written
    means["answer/empty"] = sum(not answer.titles for answer in answers) / len(answers)
    means["answer/tokens"] = sum(len(answer.tokens) for answer in answers) / len(answers)
    means["answer/right_count"] = sum(
        len(answer.titles) == answer.judgement.instruction.item_count for answer in answers
    ) / len(answers)
    if greedy:
        likeliest = summary([replace(answer, greedy=False) for answer in greedy], reward)
        means |= {f"greedy/{name.partition('/')[2]}": likeliest[name] for name in ("reward/total", "illegal/repeat")}
    return means
