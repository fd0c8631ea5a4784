"""A constraint inside vLLM: a logits processor of its V1 engine, as documented for vLLM 0.10 and later.

The engine runs in a process of its own. It gets names and files and no objects, so it makes the constraint from the
folder that :func:`engine_settings` wrote. vLLM's second model runner has another interface for processors; if that is
the default, ``VLLM_USE_V2_MODEL_RUNNER=0`` chooses the one that this module is for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import ConstraintConfig, ModelConfig
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.lm.backbone import save_tokenizer
from ctrlrec.lm.chat_format import ChatFormat

_KEY = "ctrlrec"  # of what is passed through vLLM's additional_config and a request's extra_args
_CATALOGUE = "catalogue.jsonl"


def engine_settings(constraint: Constraint, folder: Path) -> dict[str, Any]:
    """Write what the engine makes a constraint from, and return the arguments of vLLM's ``LLM`` that name it.

    Args:
        constraint: to be obeyed.
        folder: to write into; it must be there until the engine has started.
    """
    chat_format = constraint.chat_format
    save_tokenizer(chat_format.tokenizer, sorted(chat_format.ends), folder)
    constraint.catalogue.save(folder / _CATALOGUE)
    told = {"folder": str(folder), "constraint": constraint.settings.name, "model": plain(chat_format.config)}
    return {"logits_processors": ["ctrlrec.generation.vllm_masks:Masks"], "additional_config": {_KEY: told}}


def request_settings(instruction: Instruction) -> dict[str, Any]:
    """Return the ``extra_args`` of a request that is to obey the constraint: its instruction as plain values."""
    asked = {
        "task": instruction.task,
        "user": instruction.user,
        "history": list(instruction.history),
        "target": instruction.target,
        "item_count": instruction.item_count,
        "category": instruction.category,
        "proportion": instruction.proportion,
        "candidates": None if instruction.candidates is None else list(instruction.candidates),
        "messages": [list(turn) for turn in instruction.messages],
        "blend": [condition.record() for condition in instruction.blend],
    }
    return {_KEY: asked}


def _instruction(values: Mapping[str, Any]) -> Instruction:
    """Return the instruction that :func:`request_settings` wrote."""
    candidates = values["candidates"]
    return Instruction(
        values["task"],
        values["user"],
        tuple(values["history"]),
        values["target"],
        values["item_count"],
        values["category"],
        values["proportion"],
        None if candidates is None else tuple(candidates),
        tuple((role, text) for role, text in values["messages"]),
        tuple(Condition.read(record) for record in values["blend"]),
    )


@dataclass
class _Request:
    """A request in the batch.

    Attributes:
        state: of the constraint, after the first ``followed`` tokens.
        written: its tokens; vLLM appends to this list.
    """

    state: Any
    written: list[int]
    followed: int = 0


class Masks(LogitsProcessor):
    """Restricts every request that names an instruction to what its constraint allows.

    Args:
        vllm_config: its ``additional_config`` names folder, constraint and model settings.
        device: of the logits.
        is_pin_memory: unused.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        settings = vllm_config.additional_config[_KEY]
        folder, model = Path(settings["folder"]), ModelConfig(**settings["model"])
        made = make_constraint(
            ConstraintConfig(settings["constraint"]),
            Catalogue.load(folder / _CATALOGUE),
            ChatFormat.load(folder, model),
        )
        if made is None:
            raise CtrlRecError(
                f"constraint.name={settings['constraint']}: it restricts nothing; leave the processor out"
            )
        self.constraint: Constraint = made
        self._requests: dict[int, _Request] = {}

    def is_argmax_invariant(self) -> bool:
        """Return False: the likeliest token may be ruled out."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow requests that join, leave or change their place in the batch, in the order that vLLM prescribes."""
        if batch_update is None:
            return
        requests = self._requests
        for row in batch_update.removed:
            requests.pop(row, None)
        for row, parameters, _, written in batch_update.added:
            requests.pop(row, None)
            asked = (parameters.extra_args or {}).get(_KEY)
            if asked is not None:
                requests[row] = _Request(self.constraint.start(_instruction(asked)), written)
        for source, target, direction in batch_update.moved:
            moving, other = requests.pop(source, None), requests.pop(target, None)
            if moving is not None:
                requests[target] = moving
            if other is not None and direction == MoveDirectionality.SWAP:
                requests[source] = other

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits (rows, V) with those of tokens that are not allowed at the lowest number."""
        states: list[Any] = [None] * len(logits)
        for row, request in self._requests.items():
            for token in request.written[request.followed :]:
                (request.state,) = self.constraint.follow([request.state], [token])
            request.followed = len(request.written)
            states[row] = request.state
        return self.constraint.restrict(states, logits)
