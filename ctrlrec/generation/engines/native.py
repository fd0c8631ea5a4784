"""Our decoder for Llama-like models: adapters stay exact, samples share their prompt, forced tokens cost no step."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ctrlrec.config.schema import Config
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.decoder.decode import decode
from ctrlrec.generation.decoder.network import unsupported
from ctrlrec.generation.engines.base import Engine, Prompt, Sample, Setup, starts
from ctrlrec.runtime.faults import halving


class Native(Engine):
    """Answers with :mod:`ctrlrec.generation.decoder`; if memory runs out, with half as many answers at a time."""

    def __init__(self, setup: Setup):
        super().__init__(setup)
        assert setup.model is not None
        self._refuse(unsupported(setup.model))
        self.model = setup.model

    @classmethod
    def check(cls, config: Config, cache: Path) -> None:
        """Refuse a pretrained backbone that the decoder does not support."""
        from ctrlrec.lm.abilities import empty_model

        if config.model.kind in ("pretrained", "encoder_decoder"):
            cls._refuse(unsupported(empty_model(config.model, cache)))

    @staticmethod
    def _refuse(reason: str | None) -> None:
        if reason is not None:
            raise CtrlRecError(f"generation.engine=native: {reason}; set generation.engine=auto")

    def _answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, constraint: Constraint | None
    ) -> Iterator[tuple[int, Sample]]:
        setup, states = self.setup, starts(prompts, constraint)
        rows, finished = [prompt.tokens for prompt in prompts], set[int]()

        def some(size: int) -> Iterator[tuple[int, Sample]]:
            for place, sample in decode(
                self.model,
                rows,
                setup.chat_format.ends,
                setup.max_new_tokens,
                temperature,
                samples,
                size,
                constraint,
                states,
                finished,
            ):
                finished.add(place)
                yield place, sample

        return halving(some, setup.batch_size or max(1, len(rows) * samples))


ENGINE = Native
