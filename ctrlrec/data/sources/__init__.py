"""Sources of interactions, one module each; ``SOURCES`` holds them by the name in ``dataset.source``."""

from collections.abc import Mapping

from ctrlrec.config.choices import Choices
from ctrlrec.data.sources.base import Source

SOURCES: Mapping[str, Source] = Choices("data.sources", "SOURCE")
