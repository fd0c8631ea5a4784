"""Transformers' ``generate``, for any architecture that it has.

Its continuous batching (``generate_batch``) is not used. In 5.23 it takes no logits processor of ours, so no constraint
would hold. It logs a failure and returns the answers that it has, and a call takes half a minute on a CPU.
"""

from collections.abc import Iterator, Sequence

from ctrlrec.generation.by_transformers import greedy_or_sampled
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines.base import Engine, Prompt, Sample, starts
from ctrlrec.runtime.faults import halving


class HF(Engine):
    """Answers batches of prompts of similar length; if memory runs out, half as many at a time."""

    def _answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, constraint: Constraint | None
    ) -> Iterator[tuple[int, Sample]]:
        setup, states = self.setup, starts(prompts, constraint)
        model, finished = setup.model, set[int]()
        assert model is not None
        order = sorted(range(len(prompts) * samples), key=lambda place: len(prompts[place // samples].tokens))

        def some(size: int) -> Iterator[tuple[int, Sample]]:
            missing = [place for place in order if place not in finished]
            for begin in range(0, len(missing), size):
                places = missing[begin : begin + size]
                made = greedy_or_sampled(
                    model,
                    setup.chat_format,
                    [prompts[place // samples].tokens for place in places],
                    setup.max_new_tokens,
                    temperature,
                    constraint,
                    [states[place // samples] for place in places] if states else [],
                )
                finished.update(places)
                yield from zip(places, made, strict=True)

        return halving(some, setup.batch_size or max(1, len(order)))


ENGINE = HF
