"""The native decoder if it supports the model, transformers otherwise."""

from collections.abc import Iterator, Sequence

from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.decoder.network import unsupported
from ctrlrec.generation.engines.base import Engine, Prompt, Sample, Setup
from ctrlrec.generation.engines.hf import HF
from ctrlrec.generation.engines.native import Native


class Auto(Engine):
    """Answers with one of the two engines that need nothing but PyTorch and transformers."""

    def __init__(self, setup: Setup):
        super().__init__(setup)
        assert setup.model is not None
        self.chosen: Engine = HF(setup) if unsupported(setup.model) else Native(setup)

    def _answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, constraint: Constraint | None
    ) -> Iterator[tuple[int, Sample]]:
        return self.chosen.answers(prompts, samples, temperature, constraint)


ENGINE = Auto
