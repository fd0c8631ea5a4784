"""A server that speaks chat completions: one of your own with a trained model, or the one of the row ``api``.

The row ``api`` is a general model that was never trained on the catalogue (GPT-3.5 in the paper). From the paper: the
prompts of Listings 1 to 3, and the first 1,000 test users because answers cost money. What differs: the paper's
gpt-3.5-turbo-0613 is no longer served, so the model is whatever ``api.model`` names; as for the untouched backbone, a
sentence asks for the bare list (``variant.prompt_suffix``); answers are greedy as far as the server obeys a temperature
of 0. If ``evaluation.users`` takes a sample, the first of the sample are asked.

Titles are sent as they are: whether text in a message that looks like a special token is taken for one is up to the
server's tokenizer, while for a model in this process :mod:`ctrlrec.lm.inert_text` spells it out.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctrlrec.config.schema import Config
from ctrlrec.controls.instruction import Instruction
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines.base import Engine, Prompt, Sample, Setup
from ctrlrec.generation.server.client import ChatClient, key


class API(Engine):
    """Sends messages and receives text, greedily; answers are kept on disk, so that none is paid twice."""

    samples = False
    constrainable = False
    reads_model = False
    local = False
    reports = True

    def __init__(self, setup: Setup):
        super().__init__(setup)
        assert setup.api is not None and setup.kept is not None
        self.client = ChatClient(setup.api, setup.max_new_tokens, setup.kept, setup.stop)

    @classmethod
    def check(cls, config: Config, cache: Path) -> None:
        """Refuse a server whose key is not in the environment."""
        key(config.api)

    def prompts(self, instructions: Sequence[Instruction]) -> list[Prompt]:
        """Return instructions without ids: the server's own tokenizer makes them."""
        return [Prompt([], instruction) for instruction in instructions]

    def _answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, constraint: Constraint | None
    ) -> Iterator[tuple[int, Sample]]:
        conversations = []
        for prompt in prompts:
            if prompt.instruction is None:
                raise CtrlRecError("generation.engine=api: a server is sent messages, and this prompt has ids alone")
            conversations += [prompt.instruction.messages] * samples
        return ((place, Sample([], [], text)) for place, text in self.client.answers(conversations))

    def report(self) -> dict[str, Any]:
        """Return how many answers came and from where, their tokens and their cost."""
        return self.client.cache.report()


ENGINE = API
