"""Our rewards for verl: a reward function, and a reward manager that places item rewards on tokens.

Imports neither Lightning nor Hydra, nor verl itself. verl loads this file by its path::

    reward.custom_reward_function.path=.../ctrlrec/rewards/verl.py
    reward.custom_reward_function.name=compute_score
    reward.reward_manager.source=importlib
    reward.reward_manager.name=ItemRewardManager
    reward.reward_manager.module.path=.../ctrlrec/rewards/verl.py

verl places a reward on tokens only where it rewards whole batches; its agent loop calls :func:`compute_score` for one
answer at a time and puts the score on the last token.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.parsing import last_tokens
from ctrlrec.rewards.credit import PlacedScore, place
from ctrlrec.rewards.recorded import RecordedReward, Rewarded


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    run: str | None = None,
    reward: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """Return the reward of an answer and its parts, under the same keys for every task.

    Args:
        data_source: not read.
        solution_str: the answer.
        ground_truth: the instruction as JSON, as ``python -m ctrlrec.export prompts`` writes it.
        extra_info: its ``run`` is the folder of the stage ``instructions``, which lies beside catalogue and teacher.
        run: another folder, if the workers see it under another path.
        reward: keys of ``reward`` that are to have other values than in that run.
        kwargs: what else verl gives.

    Returns:
        ``score``, the weighted total; ``item``, the sum of R_item; ``list``, R_list; ``control``, its part for the
        control, 0 if nothing was asked for; ``items``, the number written; ``illegal``, how many of these. All are 0
        for search and chat, which have no reward.

    Raises:
        CtrlRecError: without a folder, or for what is not an instruction of its catalogue.
    """
    return _parts(_rewarded(solution_str, ground_truth, extra_info, run, reward))


class ItemRewardManager:
    """A reward manager of verl: each item's reward on the last token of its line, the rest on the last token.

    Its scores are numbers that carry their places (:class:`PlacedScore`), so that they also serve where verl wants one
    number an answer. Use it with ``algorithm.adv_estimator=gae``; estimators that compare answers add tokens up.

    Args:
        config: verl's; ``reward.custom_reward_function.reward_kwargs`` may hold ``run`` and ``reward`` of
            :func:`compute_score`.
        tokenizer: of the model.
        compute_score: not called; verl's arguments of the call come with :attr:`config`.
        further: what else verl gives.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **further: Any):
        self.config, self.tokenizer = config, tokenizer
        node = config
        for name in ("reward", "custom_reward_function", "reward_kwargs"):
            node = (node.get(name) if node is not None else None) or {}
        self._run, self._reward = node.get("run"), node.get("reward")

    def _written(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Return score and parts of the last answer of ``data`` (verl's DataProto)."""
        return await asyncio.get_running_loop().run_in_executor(None, self._scored, data[-1:][0])

    def _scored(self, answer: Any) -> dict[str, Any]:
        row = answer.non_tensor_batch
        responses = answer.batch["responses"]
        real = int(answer.batch["attention_mask"][-len(responses) :].sum())
        tokens = responses[:real].tolist()
        text = self._written(tokens)
        ground_truth = row["reward_model"]["ground_truth"]
        rewarded = _rewarded(text, ground_truth, row.get("extra_info"), self._run, self._reward)
        parts = _parts(rewarded)
        placed: list[tuple[int, float]] = []
        if rewarded is not None and tokens:
            places = last_tokens(self._written, tokens, text, [item.end for item in rewarded.written])
            placed = [*zip(places, rewarded.at_items, strict=True), (len(tokens) - 1, rewarded.at_end)]
        return {"reward_score": PlacedScore(parts["score"], placed), "reward_extra_info": parts}

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: Sequence[float]) -> torch.Tensor:
        """Return the rewards on tokens, (B, T); a score without places stands on the answer's last token.

        Args:
            data: B answers, with ``prompts``, ``responses`` (B, T) and ``attention_mask``.
            scores: of :meth:`run_single`.
        """
        responses, prompt_length = data.batch["responses"], data.batch["prompts"].shape[1]
        last = data.batch["attention_mask"][:, prompt_length:].sum(1).clamp(min=1) - 1
        credits = [
            score.placed if isinstance(score, PlacedScore) and score.placed else [(int(end), float(score))]
            for score, end in zip(scores, last, strict=True)
        ]
        return place(
            [[value for _, value in of_answer[:-1]] for of_answer in credits],
            [of_answer[-1][1] for of_answer in credits],
            [[position for position, _ in of_answer] for of_answer in credits],
            responses.shape[1],
        ).to(responses.device)


def _parts(rewarded: Rewarded | None) -> dict[str, float]:
    """Return the numbers that verl logs; the same keys for every answer, or verl refuses the batch."""
    if rewarded is None:
        return dict.fromkeys(("score", "item", "list", "control", "items", "illegal"), 0.0)
    return {
        "score": rewarded.total,
        "item": sum(rewarded.items),
        "list": rewarded.list,
        "control": rewarded.control or 0.0,
        "items": float(len(rewarded.items)),
        "illegal": float(sum(reason is not None for reason in rewarded.judgement.illegal)),
    }


def _rewarded(
    text: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None,
    run: str | None,
    reward: Mapping[str, Any] | None,
) -> Rewarded | None:
    folder = run or (extra_info or {}).get("run")
    if not folder:
        raise CtrlRecError(
            "no folder of a run: give it as extra_info.run, as python -m ctrlrec.export prompts does, or as "
            "reward.custom_reward_function.reward_kwargs.run"
        )
    (rewarded,) = _rewards(str(folder), tuple(sorted((reward or {}).items())))([ground_truth], [text])
    return rewarded


@functools.cache
def _rewards(folder: str, changed: tuple[tuple[str, Any], ...]) -> RecordedReward:
    """Return the rewards of a run; a process loads each once."""
    return RecordedReward.from_run(folder, dict(changed))
