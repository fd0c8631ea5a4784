"""Rollouts: sampled answers, judged and rewarded, with rewards placed on the tokens that earned them."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines import Engine
from ctrlrec.generation.engines.base import Prompt
from ctrlrec.generation.sample import Sample
from ctrlrec.lm.parsing import last_tokens, written_items
from ctrlrec.rewards.credit import place
from ctrlrec.rewards.judging import Judgement, judge
from ctrlrec.rewards.reward import Reward
from ctrlrec.rl.corrections import corrections
from ctrlrec.runtime.files import json_line, write_jsonl
from ctrlrec.teacher.ranker import Ranker

Kind = Literal["sampled", "greedy", "guided", "corrected"]

_JUDGED_AT_ONCE = 32  # finished answers


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
        kind: how it was made: sampled; decoded greedily; guided, greedily under a constraint that the samples do not
            have; or corrected, the greedy one with the teacher's items where its own may not stand.
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
    kind: Kind = "sampled"

    @property
    def sampled(self) -> bool:
        """Whether it is a sample of the policy."""
        return self.kind == "sampled"

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
            **({} if self.sampled else {self.kind: True}),
        }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Answers of one kind to each prompt: how many, at which temperature, under which constraint."""

    kind: Kind
    count: int
    temperature: float | None
    constraint: Constraint | None


class Sampler:
    """Answers to prompts, judged and rewarded.

    Args:
        engine: answers.
        catalogue: titles and categories.
        ranker: the teacher.
        reward: what answers earn.
        constraint: what may be written; None for anything.
        guide: a constraint for one more greedy answer to each prompt of a group; None for no such answer.
    """

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        ranker: Ranker,
        reward: Reward,
        constraint: Constraint | None = None,
        guide: Constraint | None = None,
    ):
        self.engine, self.catalogue, self.ranker, self.reward = engine, catalogue, ranker, reward
        self.chat_format, self.constraint, self.guide = engine.setup.chat_format, constraint, guide

    def __call__(
        self,
        prompts: Sequence[Prompt],
        temperature: float | None,
        samples: int = 1,
        greedy_row: bool = False,
        guided_row: bool = False,
        corrected_row: bool = False,
    ) -> list[Answer]:
        """Return answers of the model as it is now, in evaluation mode; those to one prompt lie side by side.

        A thread judges finished answers while others are still in the making.

        Args:
            prompts: B prompts of the engine, with their instructions.
            temperature: of sampling; None for greedy answers.
            samples: answers to each.
            greedy_row: add a greedy answer after the samples of each prompt.
            guided_row: add a greedy answer under the guide after those.
            corrected_row: add the greedy answer once more at the end, corrected (:func:`corrections`).
        """
        parts = [_Wanted("greedy" if temperature is None else "sampled", samples, temperature, self.constraint)]
        if greedy_row:
            parts.append(_Wanted("greedy", 1, None, self.constraint))
        if guided_row:
            parts.append(_Wanted("guided", 1, None, self.guide))
        each = sum(part.count for part in parts) + corrected_row
        judged: dict[int, Answer] = {}
        with ThreadPoolExecutor(1, "judge") as beside:
            jobs, first = [], 0
            for part in parts:
                answers = self._answers(prompts, part)
                while finished := dict(islice(answers, _JUDGED_AT_ONCE)):
                    asked = [prompts[place // part.count] for place in finished]
                    rows = [place // part.count * each + first + place % part.count for place in finished]
                    written = list(finished.values())
                    jobs.append((rows, beside.submit(self.judged, asked, written, part.kind)))
                first += part.count
            for rows, job in jobs:
                judged |= zip(rows, job.result(), strict=True)
        wanted = len(prompts) * (each - corrected_row)
        if len(judged) < wanted:
            raise CtrlRecError(
                f"generation.engine={self.engine.name}: it gave {len(judged)} of {wanted} answers; use another engine, "
                "such as generation.engine=auto"
            )
        if corrected_row:
            greedy = [judged[place * each + samples].judgement for place in range(len(prompts))]
            written = corrections(greedy, self.catalogue, self.ranker, self.chat_format)
            last = range(each - 1, len(prompts) * each, each)
            judged |= zip(last, self.judged(prompts, written, "corrected"), strict=True)
        return [judged[row] for row in sorted(judged)]

    def _answers(self, prompts: Sequence[Prompt], part: _Wanted) -> Iterator[tuple[int, Sample]]:
        """Yield the engine's answers of one kind.

        Raises:
            CtrlRecError: as the engine does, naming the key that the constraint comes from.
        """
        try:
            yield from self.engine.answers(prompts, part.count, part.temperature, part.constraint)
        except CtrlRecError as error:
            if part.kind != "guided":
                raise
            raise CtrlRecError(f"rl.guided_row: {error}, or set rl.guided_row=none") from None

    def judged(self, prompts: Sequence[Prompt], samples: Sequence[Sample], kind: Kind = "sampled") -> list[Answer]:
        """Return one answer to each prompt from what was generated, all of one kind."""
        instructions = [prompt.instruction for prompt in prompts if prompt.instruction is not None]
        texts = [self.chat_format.decode(sample.tokens) for sample in samples]
        written = [written_items(text) for text in texts]
        titles = [[item.title for item in items] for items in written]
        judgements = judge(instructions, titles, self.catalogue, self.ranker)
        answers = []
        for prompt, sample, text, items, judgement in zip(prompts, samples, texts, written, judgements, strict=True):
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
                    kind,
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

    They are those of the sampled answers; those of other kinds have their own, such as ``greedy/`` and ``guided/``.
    """
    others = {kind: [answer for answer in answers if answer.kind == kind] for kind in get_args(Kind)[1:]}
    answers = [answer for answer in answers if answer.sampled]
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
    for kind, members in others.items():
        if members:
            own = summary([replace(answer, kind="sampled") for answer in members], reward)
            means |= {f"{kind}/{name.partition('/')[2]}": own[name] for name in ("reward/total", "illegal/repeat")}
    return means
