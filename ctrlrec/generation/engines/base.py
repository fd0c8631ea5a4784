"""The base of an engine: prompts in, finished answers out, one by one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from peft import PeftModel
from transformers import PreTrainedModel

from ctrlrec.config.schema import APIConfig, Config
from ctrlrec.controls.instruction import Instruction
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.sample import Sample
from ctrlrec.lm.chat_format import ChatFormat

if TYPE_CHECKING:
    from ctrlrec.generation.constraints.base import Constraint


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt to answer.

    Attributes:
        tokens: ids of the prompt; empty for an engine that is sent the messages.
        instruction: the question, from which a constraint starts; None for a bare prompt, which no constraint binds.
    """

    tokens: list[int]
    instruction: Instruction | None = None


@dataclass(frozen=True)
class Setup:
    """The parts that an engine is made from.

    Attributes:
        chat_format: prompts, texts, and the ends of answers.
        max_new_tokens: longest answer.
        model: in evaluation mode; its active adapter at each call answers. None for a server.
        batch_size: most answers in the making at a time, for engines of this process; None for all.
        seed: of an engine that draws by itself.
        memory_share: of a GPU's memory, for an engine that takes it in advance; None for its own default.
        api: the server, for an engine that asks one.
        kept: folder of a server's answers.
        stop: texts at which a server ends an answer.
    """

    chat_format: ChatFormat
    max_new_tokens: int
    model: PreTrainedModel | PeftModel | None = None
    batch_size: int | None = None
    seed: int = 0
    memory_share: float | None = None
    api: APIConfig | None = None
    kept: Path | None = None
    stop: Sequence[str] = ()


class Engine(ABC):
    """Answers prompts; leaving its ``with`` block frees what it holds.

    Attributes:
        samples: whether it samples at a temperature and gives log-probabilities, as RL needs.
        constrainable: whether it obeys a constraint.
        reads_model: whether the model is loaded into this process. Otherwise process 0 asks for all in evaluation.
        local: whether the model answers in this process, so that its beams can be searched.
        encoder_decoders: whether it answers with encoder-decoders.
        reports: whether :meth:`report` gives anything, so that every answer must pass through one engine, in process 0.
    """

    samples: ClassVar[bool] = True
    constrainable: ClassVar[bool] = True
    reads_model: ClassVar[bool] = True
    local: ClassVar[bool] = True
    encoder_decoders: ClassVar[bool] = True
    reports: ClassVar[bool] = False

    def __init__(self, setup: Setup):
        self.setup = setup

    @classmethod  # noqa: B027
    def check(cls, config: Config, cache: Path) -> None:
        """Refuse a run before its first stage, such as for a missing package.

        Args:
            config: of the run.
            cache: folder for downloads.

        Raises:
            CtrlRecError: naming what is missing and what to change.
        """

    @property
    def name(self) -> str:
        """The value of ``generation.engine``."""
        return type(self).__module__.rpartition(".")[2]

    def prompts(self, instructions: Sequence[Instruction]) -> list[Prompt]:
        """Return instructions as this engine reads them."""
        rows = self.setup.chat_format.prompts([instruction.messages for instruction in instructions])
        return [Prompt(tokens, instruction) for tokens, instruction in zip(rows, instructions, strict=True)]

    def answers(
        self,
        prompts: Sequence[Prompt],
        samples: int = 1,
        temperature: float | None = None,
        constraint: "Constraint | None" = None,
    ) -> Iterator[tuple[int, Sample]]:
        """Answer prompts and yield each answer as soon as it is finished.

        An exception leaves the answers that were yielded before it.

        Args:
            prompts: B prompts.
            samples: answers to each.
            temperature: None decodes greedily; a number samples from the full distribution at it.
            constraint: what may be written; None for anything. Log-probabilities are those among allowed tokens.

        Returns:
            Places and answers, B x samples, in any order. Answer ``place`` is one to prompt ``place // samples``.

        Raises:
            CtrlRecError: before anything is asked, if this engine cannot sample or cannot be constrained; later, if no
                token is allowed.
        """
        if temperature is not None and not self.samples:
            raise CtrlRecError(
                f"generation.engine={self.name}: it gives no log-probabilities of samples; use generation.engine=auto"
            )
        if constraint is not None and not self.constrainable:
            raise CtrlRecError(
                f"generation.engine={self.name} constraint.name={constraint.settings.name}: its answers cannot be "
                "constrained; set constraint.name=none or generation.engine=auto"
            )
        return self._answers(prompts, samples, temperature, constraint)

    @abstractmethod
    def _answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, constraint: "Constraint | None"
    ) -> Iterator[tuple[int, Sample]]:
        """Yield what :meth:`answers` says."""

    def text(self, sample: Sample) -> str:
        """Return the text of an answer."""
        return self.setup.chat_format.decode(sample.tokens) if sample.text is None else sample.text

    def report(self) -> dict[str, Any]:
        """Return what the answers took, for ``api.json``; empty for an engine that does not report."""
        return {}

    def close(self) -> None:  # noqa: B027
        """Free what the engine holds; it may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def starts(prompts: Sequence[Prompt], constraint: "Constraint | None") -> list[Any]:
    """Return the state of a constraint before the answer to each prompt; nothing without a constraint.

    Raises:
        CtrlRecError: for a demand that no answer meets.
    """
    if constraint is None:
        return []
    return [None if prompt.instruction is None else constraint.start(prompt.instruction) for prompt in prompts]


def in_order(answers: Iterable[tuple[int, Sample]]) -> list[Sample]:
    """Return finished answers by place."""
    return [sample for _, sample in sorted(answers, key=lambda answer: answer[0])]
