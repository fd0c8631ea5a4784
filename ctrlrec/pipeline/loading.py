"""What the stages of language models load: the builder of instructions and the prompt format."""

from typing import TYPE_CHECKING

from ctrlrec.config.schema import Config
from ctrlrec.pipeline.inputs import dataset
from ctrlrec.pipeline.stage import Inputs

if TYPE_CHECKING:
    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.lm.chat_format import ChatFormat


def load_builder(config: Config, inputs: Inputs) -> tuple["InstructionBuilder", "ChatFormat"]:
    """Load the builder of a variant's instructions, and the backbone's prompt format."""
    from ctrlrec.baselines.instructrec import InstructRecInstructions
    from ctrlrec.baselines.palr import PALRInstructions
    from ctrlrec.controls.registry import own_families
    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.lm.chat_format import ChatFormat
    from ctrlrec.lm.indexing import ITEM_TOKEN
    from ctrlrec.runtime.hardware import prepare_hardware
    from ctrlrec.teacher.ranker import Ranker

    builders = {"paper": InstructionBuilder, "palr": PALRInstructions, "instructrec": InstructRecInstructions}
    prepare_hardware(config.trainer)
    catalogue, sequences = dataset(config, inputs)
    titles = catalogue.titles if config.indexing.name == ITEM_TOKEN else ()
    chat_format = ChatFormat.load(inputs["data"] / "tokenizer", config.model, titles)
    ranker = Ranker.load(inputs["teacher"])
    limit, own = chat_format.limit(), own_families(config.variant.tasks)
    make = builders[config.variant.instructions]
    return make(catalogue, sequences, ranker, config.instructions, limit, config.seed, own), chat_format
