"""Rewards of answers to instructions as files hold them: what the plug-ins for other trainers are made of.

Imports neither Lightning nor Hydra, so that a reward worker starts in seconds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ctrlrec.config.schema import RewardConfig
from ctrlrec.config.unrecorded import completed
from ctrlrec.controls.instruction import Instruction
from ctrlrec.controls.registry import CHAT, SEARCH
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.parsing import WrittenItem, written_items
from ctrlrec.rewards.judging import Judgement, judge
from ctrlrec.rewards.reward import Reward
from ctrlrec.runtime.files import check_files
from ctrlrec.runtime.results import RECORD, made_from, read

if TYPE_CHECKING:
    from ctrlrec.teacher.ranker import Ranker

UNREWARDED = (SEARCH, CHAT)  # tasks that have no control to score


@dataclass(frozen=True, slots=True)
class Rewarded:
    """The rewards of one answer.

    Attributes:
        written: its items.
        judgement: the verdict on each.
        items: R_item of each, before its weight.
        list: R_list, before its weight.
        control: the part of R_list that measures the control; None if nothing was asked for (I0).
        at_items: what each item earns, weighted.
        at_end: what the end of the answer earns, weighted.
    """

    written: tuple[WrittenItem, ...]
    judgement: Judgement
    items: tuple[float, ...]
    list: float
    control: float | None
    at_items: tuple[float, ...]
    at_end: float

    @property
    def total(self) -> float:
        """The reward of the answer, weighted."""
        return sum(self.at_items) + self.at_end


class RecordedReward:
    """Rewards of texts by instructions with the fields of ``rollouts.jsonl``.

    Args:
        catalogue: titles and categories.
        ranker: the teacher.
        reward: its reading and weights.
    """

    def __init__(self, catalogue: Catalogue, ranker: "Ranker", reward: Reward):
        self.catalogue, self.ranker, self.reward = catalogue, ranker, reward

    @classmethod
    def from_run(cls, folder: str | Path, changed: Mapping[str, Any] | None = None) -> "RecordedReward":
        """Return the rewards of a finished run; catalogue and teacher are found beside the folder.

        Args:
            folder: of the stage ``instructions``, ``sl``, ``rl`` or ``evaluate``.
            changed: keys of ``reward`` that are to have other values than in that run, such as ``item_weight``.

        Raises:
            CtrlRecError: for another folder, a part of the run that is missing or altered, or an unknown key.
        """
        from ctrlrec.teacher.ranker import Ranker

        upstream, config = finished_run(folder)
        for stage in ("data", "teacher"):
            if not upstream[stage].is_dir():
                raise CtrlRecError(f"{folder}: what it was made from is missing, {upstream[stage]}")
            check_files(upstream[stage])
        return cls(
            Catalogue.load(upstream["data"] / "catalogue.jsonl"),
            Ranker.load(upstream["teacher"]),
            Reward(_settings(config["reward"], changed or {})),
        )

    def __call__(
        self, instructions: Sequence[str | Mapping[str, Any]], answers: Sequence[str]
    ) -> list[Rewarded | None]:
        """Return the rewards of a batch of answers; None for a task that has none (search and chat).

        Args:
            instructions: B instructions as JSON, or as what it holds.
            answers: B texts.

        Raises:
            CtrlRecError: for what is not an instruction of this catalogue.
        """
        asked = [self._read(instruction) for instruction in instructions]
        rows = [row for row, instruction in enumerate(asked) if instruction.task not in UNREWARDED]
        written = [written_items(answers[row]) for row in rows]
        titles = [[item.title for item in items] for items in written]
        judged = judge([asked[row] for row in rows], titles, self.catalogue, self.ranker) if rows else []
        rewarded: list[Rewarded | None] = [None] * len(asked)
        for row, items, judgement in zip(rows, written, judged, strict=True):
            rewarded[row] = self._rewarded(tuple(items), judgement)
        return rewarded

    def _read(self, instruction: str | Mapping[str, Any]) -> Instruction:
        if isinstance(instruction, str):
            try:
                instruction = json.loads(instruction)
            except ValueError:
                instruction = {}
        if not isinstance(instruction, Mapping) or "task" not in instruction:
            raise CtrlRecError(
                "the column 'instruction' holds no instruction: expected JSON with the fields of rollouts.jsonl (task, "
                "user, history, ...), as python -m ctrlrec.export prompts writes it"
            )
        return Instruction.read(instruction, self.catalogue)

    def _rewarded(self, written: tuple[WrittenItem, ...], judgement: Judgement) -> Rewarded:
        items, whole = tuple(self.reward.item(judgement)), self.reward.list(judgement)
        at_items, at_end = self.reward.credit(items, whole, judgement)
        control = self.reward.control(judgement) if judgement.sides else None
        return Rewarded(written, judgement, items, whole, control, tuple(at_items), at_end)


def finished_run(folder: str | Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return the folders by stage that a result of a finished run was made from, its own included, and its settings.

    Raises:
        CtrlRecError: for a folder that is not a result of the stage ``instructions`` or of a later one.
    """
    directory = Path(folder)
    record = read(directory)
    upstream = made_from(directory, record.get("upstream", {}))
    upstream[directory.absolute().parent.name] = directory.absolute()
    if not record or not {"data", "teacher", "instructions"} <= upstream.keys():
        raise CtrlRecError(
            f"{directory}: expected the folder of a finished stage instructions, such as runs/instructions/NAME, or of "
            f"a later stage of a trained row, with its {RECORD}"
        )
    return upstream, record["config"]


def _settings(recorded: Mapping[str, Any], changed: Mapping[str, Any]) -> RewardConfig:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RewardConfig), completed("reward", recorded), changed)
    except OmegaConfBaseException as error:
        raise CtrlRecError(f"reward.{error.full_key}: {str(error).splitlines()[0]}") from None
    return OmegaConf.to_object(merged)  # type: ignore[return-value]
