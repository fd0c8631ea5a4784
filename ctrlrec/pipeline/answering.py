"""What answers instructions in the stage ``evaluate`` and in the app: an engine, or beams."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ctrlrec.config.schema import Config
from ctrlrec.runtime import processes

if TYPE_CHECKING:
    from ctrlrec.controls.instruction import Instruction
    from ctrlrec.evaluation.answering import Answerer
    from ctrlrec.generation.constraints.base import Constraint
    from ctrlrec.generation.engines import Engine
    from ctrlrec.lm.chat_format import ChatFormat


def longest(config: Config, constraint: "Constraint | None") -> int:
    """Return the tokens of the longest answer; one that a constraint ends has room for long titles."""
    if constraint is not None and constraint.ends_itself:
        return config.model.max_response_length
    return min(config.generation.max_new_tokens, config.model.max_response_length)


def model_answers(config: Config, model: Any, chat_format: "ChatFormat", constraint: "Constraint | None") -> "Answerer":
    """Return what answers instructions with the model of this process, greedily or with its best beams.

    Args:
        config: of the run.
        model: in evaluation mode.
        chat_format: of the model.
        constraint: what it may write; None for anything.
    """
    from ctrlrec.generation.engines import Setup, make_engine

    if config.variant.beam_search:
        return beam_answers(config, model, chat_format, constraint)
    setup = Setup(chat_format, longest(config, constraint), model, config.generation.batch_size)
    return engine_answers(config, make_engine(config.generation.engine, setup), constraint)


def engine_answers(config: Config, engine: "Engine", constraint: "Constraint | None") -> "Answerer":
    """Return what answers instructions greedily with an engine."""
    from ctrlrec.generation.engines.base import in_order
    from ctrlrec.runtime.hardware import autocast
    from ctrlrec.runtime.progress import progress

    def answer(asked: "Sequence[Instruction]") -> list[str]:
        prompts, finished = engine.prompts(asked), []
        with progress(config.trainer, asked[0].task, len(asked)) as advance, autocast(config.trainer):
            for one in engine.answers(prompts, constraint=constraint):
                finished.append(one)
                advance(1)
        return [engine.text(sample) for sample in in_order(finished)]

    return answer


def shared(answerer: "Answerer") -> "Answerer":
    """Return what has each process answer its share; all are to ask the same, and all get the answers, in order.

    A process whose share is empty answers nothing. Its engine starts at the first question, so not at all.
    """

    def answer(asked: "Sequence[Instruction]") -> list[str]:
        texts: list[str] = []
        with processes.together():
            if share := processes.share(asked):
                texts = answerer(share)
        return processes.joined(texts)

    return answer


def beam_answers(config: Config, model: Any, chat_format: "ChatFormat", constraint: "Constraint | None") -> "Answerer":
    """Return what answers instructions with lists whose items are the best beams of a model."""
    from ctrlrec.baselines.instructrec import beam_lists
    from ctrlrec.generation.constraints.base import start
    from ctrlrec.runtime.hardware import autocast
    from ctrlrec.runtime.progress import progress

    limit = min(longest(config, constraint), config.dataset.title_max_tokens + 1)  # one title and the end
    size = config.generation.batch_size

    def answer(asked: "Sequence[Instruction]") -> list[str]:
        prompts = chat_format.prompts([instruction.messages for instruction in asked])
        starts = [] if constraint is None else [start(constraint, instruction, True) for instruction in asked]
        counts = [instruction.item_count for instruction in asked]
        with progress(config.trainer, asked[0].task, len(asked)) as advance, autocast(config.trainer):
            return beam_lists(model, chat_format, prompts, counts, limit, size, advance, constraint, starts)

    return answer
