"""What every stage may load: the cache folder and the data."""

from pathlib import Path
from typing import TYPE_CHECKING

from ctrlrec.config.schema import Config
from ctrlrec.pipeline.stage import Inputs
from ctrlrec.runtime import user

if TYPE_CHECKING:
    from ctrlrec.data.catalogue import Catalogue
    from ctrlrec.data.sequences import Sequences


def cache_folder(config: Config) -> Path:
    """Return the cache folder, created if missing."""
    return user.cache_folder(config.cache)


def dataset(config: Config, inputs: Inputs) -> tuple["Catalogue", "Sequences"]:
    """Load the catalogue and the sequences of a finished data stage."""
    from ctrlrec.data.catalogue import Catalogue
    from ctrlrec.data.sequences import Sequences

    catalogue = Catalogue.load(inputs["data"] / "catalogue.jsonl")
    return catalogue, Sequences.load(inputs["data"] / "sequences.jsonl", catalogue, config.dataset.history_length)
