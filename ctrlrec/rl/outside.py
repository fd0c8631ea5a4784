"""What a trainer of another library takes from us: our prompts, a tokenizer, and a reward that keeps the answers."""

import copy
import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ctrlrec.controls.instruction import Instruction
from ctrlrec.generation.sample import Sample
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards.trl import ControlReward
from ctrlrec.rl.rollout import Rollouts, summary
from ctrlrec.rl.watch import CollapseWatch

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from ctrlrec.rl.algorithms.base import Outset


class Prompted:
    """The prompts of all iterations in our order, made when TRL asks for them."""

    def __init__(self, outset: "Outset"):
        self.builder, self.catalogue = outset.builder, outset.sampler.catalogue
        self.each, self.iterations = outset.config.rl.prompts, outset.config.rl.iterations
        counts = outset.config.rl.item_count_min, outset.config.rl.item_count_max
        # Rows are asked for one by one, and answered in turn: two iterations are in use at a time.
        self._made = functools.lru_cache(maxsize=2)(
            lambda iteration: self.builder.rollout_prompts(iteration, self.each, counts)
        )

    def instruction(self, row: int) -> Instruction:
        """Return one instruction."""
        return self._made(row // self.each)[row % self.each]

    def dataset(self) -> "Dataset":
        """Return the data set that TRL reads: prompts as messages, and the columns of our reward."""
        from datasets import Dataset

        data = Dataset.from_dict({"row": range(self.each * self.iterations)})
        data.set_transform(self._columns)
        return data

    def _columns(self, batch: dict[str, Any]) -> dict[str, Any]:
        asked = [self.instruction(row) for row in batch["row"]]
        return {
            "row": batch["row"],
            "prompt": [[{"role": role, "content": text} for role, text in one.messages] for one in asked],
            "instruction": [json.dumps(one.record(self.catalogue), ensure_ascii=False) for one in asked],
        }


class KeptReward(ControlReward):
    """Our reward, which keeps the answers of every iteration for ``rollouts.jsonl`` and the log."""

    def __init__(self, outset: "Outset", prompts: Prompted):
        sampler, directory = outset.sampler, outset.directory
        super().__init__(sampler.catalogue, sampler.ranker, sampler.reward)
        self.sampler, self.prompts = sampler, prompts
        self.rollouts = Rollouts(directory / "rollouts.jsonl", sampler.catalogue)
        self.watch = CollapseWatch(sampler.chat_format.ends, self.rollouts.path)
        self.samples = outset.config.rl.samples_per_prompt
        self.metrics: dict[str, float] = {}

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any = None, **columns: Any) -> Any:
        """Return the reward of each completion; see :class:`ControlReward`."""
        rows: list[int] = columns["row"]
        asked = [self.prompts.instruction(row) for row in rows]
        samples = [Sample(list(tokens), [0.0] * len(tokens)) for tokens in completion_ids]
        answers = self.sampler.judged(self.sampler.engine.prompts(asked), samples)
        iteration = rows[0] // self.prompts.each
        unended = self.watch(iteration, answers)
        self.rollouts.add(iteration, answers, self.samples)
        self.metrics = summary(answers, self.sampler.reward) | {"answer/unended": unended / len(answers)}
        self.metrics["policy/tokens"] = float(sum(len(answer.tokens) for answer in answers))
        return super().__call__(prompts, completions, completion_ids, **columns)


def tokenizer_of(chat_format: ChatFormat) -> "PreTrainedTokenizerBase":
    """Return a tokenizer with which TRL writes prompts as we do: what titles say is never part of the template."""
    tokenizer = copy.copy(chat_format.tokenizer)
    tokenizer.padding_side = "left"

    def apply_chat_template(conversation: Sequence[Sequence[dict[str, str]]], **options: Any) -> dict[str, Any]:
        turns = [tuple((turn["role"], turn["content"]) for turn in messages) for messages in conversation]
        return {"input_ids": chat_format.prompts(turns)}

    tokenizer.apply_chat_template = apply_chat_template  # type: ignore[method-assign,assignment]
    return tokenizer
