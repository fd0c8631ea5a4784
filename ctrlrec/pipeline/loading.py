"""What several stages load: data, builder, cache."""

from pathlib import Path
from typing import TYPE_CHECKING

from ctrlrec.config.schema import Config
from ctrlrec.pipeline.stage import Inputs

if TYPE_CHECKING:
    from ctrlrec.data.catalogue import Catalogue
    from ctrlrec.data.sequences import Sequences
    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.lm.chat_format import ChatFormat


def cache_folder(config: Config) -> Path:
    """Return the cache folder, created if missing."""
    cache = Path(config.cache).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def dataset(config: Config, inputs: Inputs) -> tuple["Catalogue", "Sequences"]:
    """Load the catalogue and the sequences of a finished data stage."""
    from ctrlrec.data.catalogue import Catalogue
    from ctrlrec.data.sequences import Sequences

    catalogue = Catalogue.load(inputs["data"] / "catalogue.jsonl")
    return catalogue, Sequences.load(inputs["data"] / "sequences.jsonl", catalogue, config.dataset.history_length)


def load_builder(config: Config, inputs: Inputs) -> tuple["InstructionBuilder", "ChatFormat"]:
    """What gives a variant its instructions, and the backbone's prompt format."""
    from ctrlrec.baselines.instructrec import InstructRecInstructions
    from ctrlrec.baselines.palr import PALRInstructions
    from ctrlrec.controls.registry import own_families
    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.lm.chat_format import ChatFormat
    from ctrlrec.runtime.hardware import prepare_hardware
    from ctrlrec.teacher.ranker import Ranker

    builders = {"paper": InstructionBuilder, "palr": PALRInstructions, "instructrec": InstructRecInstructions}
    prepare_hardware(config.trainer)
    catalogue, sequences = dataset(config, inputs)
    chat_format = ChatFormat.load(inputs["data"] / "tokenizer", config.model)
    ranker = Ranker.load(inputs["teacher"])
    limit, own = chat_format.limit(), own_families(config.variant.tasks)
    make = builders[config.variant.instructions]
    return make(catalogue, sequences, ranker, config.instructions, limit, config.seed, own), chat_format
