"""Our rewards as reward functions of TRL: ``GRPOTrainer(reward_funcs=ControlReward.from_run(FOLDER), ...)``.

Imports neither Lightning nor Hydra, nor TRL itself.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.rewards.recorded import RecordedReward, Rewarded
from ctrlrec.rewards.reward import Reward

if TYPE_CHECKING:
    from ctrlrec.teacher.ranker import Ranker

Completion = str | Sequence[Mapping[str, Any]]  # text, or the messages of an assistant

_PARTS: dict[str, Callable[[Rewarded], float | None]] = {
    "item": lambda rewarded: sum(rewarded.items),
    "list": lambda rewarded: rewarded.list,
    "control": lambda rewarded: rewarded.control,
    "all": lambda rewarded: rewarded.total,
}


class ControlReward:
    """A reward function of TRL that scores answers to our instructions.

    The data set needs a column ``instruction``: JSON with the fields of ``rollouts.jsonl``, as
    ``python -m ctrlrec.export prompts`` writes it. An answer to search or chat has no reward (None).

    Args:
        catalogue: titles and categories.
        ranker: the teacher.
        reward: its reading and weights.
        part: ``item``, the sum of R_item; ``list``, R_list; ``control``, the part of R_list that measures the control,
            None if nothing is asked for; all three before their weights. ``all``: the weighted total.

    Attributes:
        __name__: ``ctrlrec_PART``, by which TRL logs it.
    """

    def __init__(self, catalogue: Catalogue, ranker: "Ranker", reward: Reward, part: str = "all"):
        if part not in _PARTS:
            raise CtrlRecError(f"part={part!r}: expected one of {', '.join(_PARTS)}")
        self.__name__ = f"ctrlrec_{part}"
        self.rewards, self._part = RecordedReward(catalogue, ranker, reward), _PARTS[part]

    @classmethod
    def from_run(cls, folder: str | Path, part: str = "all", **changed: Any) -> "ControlReward":
        """Return a reward function over the catalogue and the teacher of a finished run.

        Args:
            folder: of its stage ``instructions``, or of a later one.
            part: see the class.
            changed: keys of ``reward`` that are to have other values than in that run, such as ``item_weight=0.0``.

        Raises:
            CtrlRecError: for a folder of another kind, an unknown part or an unknown key.
        """
        found = RecordedReward.from_run(folder, changed)
        return cls(found.catalogue, found.ranker, found.reward, part)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        instruction: Sequence[str | Mapping[str, Any]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return the reward of each completion.

        Args:
            prompts: not read; the instruction says what was asked.
            completions: B texts or conversations.
            completion_ids: not read.
            instruction: B instructions.
            columns: what else TRL gives: further columns, ``trainer_state``, ``log_extra``, ``log_metric``.

        Raises:
            CtrlRecError: without the column ``instruction``, or for what is not an instruction of this catalogue.
        """
        if instruction is None:
            raise CtrlRecError(
                f"{self.__name__}: the data set has no column 'instruction', only {', '.join(columns) or 'prompts'}; "
                "make it with python -m ctrlrec.export prompts"
            )
        rewarded = self.rewards(instruction, [_text(completion) for completion in completions])
        return [None if one is None else self._part(one) for one in rewarded]


def _text(completion: Completion) -> str:
    """Return the text of a completion; of messages that of the last one, whose content may come in parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(part.get("text", "") for part in content)
