"""Rollouts: sampled answers, judged and rewarded, with rewards placed on the tokens that earned them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel

from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.generate import generate
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.parsing import last_tokens, written_items
from ctrlrec.rewards.credit import place
from ctrlrec.rewards.judging import Judgement, judge
from ctrlrec.rewards.schemes import RewardScheme
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
        item_rewards: R_item of each, whether or not the variant places them.
        list_reward: R_list before its weight.
        reward_at: generated-token index of each item reward, then of the list reward.
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

    def record(self, iteration: int, sample: int, catalogue: Catalogue) -> dict[str, Any]:
        """One line of ``rollouts.jsonl`` (spec section 9)."""
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
        }


def sample_answers(
    model: PeftModel,
    chat_format: ChatFormat,
    instructions: Sequence[Instruction],
    prompts: Sequence[list[int]],
    samples: int,
    catalogue: Catalogue,
    ranker: Ranker,
    scheme: RewardScheme,
    max_new_tokens: int,
    temperature: float,
    engine: str,
    constraint: Constraint | None = None,
) -> list[Answer]:
    """Sample answers in one call, judge and reward them; those to one prompt stand side by side.

    Args:
        model: in evaluation mode, the actor active.
        chat_format: of the model.
        instructions: B instructions.
        prompts: their B rows of prompt ids.
        samples: answers to each.
        catalogue: titles and categories.
        ranker: the teacher.
        scheme: the reading of the reward.
        max_new_tokens: longest answer.
        temperature: of sampling.
        engine: ``generation.engine``.
        constraint: what may be written; None for anything.
    """
    starts = [constraint.start(instruction) for instruction in instructions] if constraint is not None else []
    sampled = generate(
        model,
        chat_format,
        prompts,
        max_new_tokens,
        engine,
        temperature,
        samples,
        constraint=constraint,
        starts=starts,
    )
    instructions = [instruction for instruction in instructions for _ in range(samples)]
    prompts = [prompt for prompt in prompts for _ in range(samples)]
    texts = [chat_format.decode(sample.tokens) for sample in sampled]
    written = [written_items(text) for text in texts]
    judgements = judge(instructions, [[item.title for item in items] for items in written], catalogue, ranker)
    answers = []
    for prompt, sample, text, items, judgement in zip(prompts, sampled, texts, written, judgements, strict=True):
        tokens = sample.tokens
        ends = last_tokens(chat_format.tokenizer, tokens, text, [item.end for item in items])
        answers.append(
            Answer(
                prompt,
                tokens,
                sample.log_probs,
                text,
                tuple(item.title for item in items),
                judgement,
                tuple(scheme.item(judgement)),
                scheme.list(judgement),
                (*ends, len(tokens) - 1),
            )
        )
    return answers


def placed_rewards(answers: Sequence[Answer], item_rewards: bool, list_weight: float) -> torch.Tensor:
    """(B, T) rewards on tokens; without ``item_rewards`` (variant v3) the list reward alone."""
    return place(
        [answer.item_rewards if item_rewards else () for answer in answers],
        [answer.list_reward for answer in answers],
        [answer.reward_at for answer in answers],
        max(len(answer.tokens) for answer in answers),
        list_weight,
    )


def summary(answers: Sequence[Answer], list_weight: float) -> dict[str, float]:
    """Means to log for one iteration: reward and its parts, overall and per task, and shares of illegal items."""
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
        means[f"reward/total{name}"] = means[f"reward/item{name}"] + list_weight * means[f"reward/list{name}"]
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
    return means
