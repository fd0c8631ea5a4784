"""The row ``api``: a general chat-completions model that was never trained on the catalogue (GPT-3.5 in the paper).

From the paper: the prompts of Listings 1 to 3, and the first 1,000 test users because answers cost money. What differs:
the paper's gpt-3.5-turbo-0613 is no longer served, so the model is whatever ``api.model`` names; as for the untouched
backbone, a sentence asks for the bare list (``variant.prompt_suffix``); answers are greedy as far as the server obeys a
temperature of 0. If ``evaluation.users`` takes a sample, the first of the sample are asked.

Titles are sent as they are: whether text in a message that looks like a special token is taken for one is up to the
server's tokenizer, while for a model in this process :mod:`ctrlrec.lm.inert_text` spells it out.
"""

from collections.abc import Callable, Sequence

from ctrlrec.config.schema import TrainerConfig
from ctrlrec.controls.instruction import Instruction
from ctrlrec.generation.server import ChatClient
from ctrlrec.runtime.progress import progress


def api_answers(client: ChatClient, trainer: TrainerConfig) -> Callable[[Sequence[Instruction]], list[str]]:
    """Return a function that turns instructions into the server's answers."""

    def answer(asked: Sequence[Instruction]) -> list[str]:
        with progress(trainer, asked[0].task, len(asked)) as advance:
            return client.answers([instruction.messages for instruction in asked], advance)

    return answer
