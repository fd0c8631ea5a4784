"""Sources of interactions, one module each; ``SOURCES`` knows them by the name in ``dataset.source``."""

import importlib
import pkgutil

from ctrlrec.data.sources.base import Source

SOURCES: dict[str, Source] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").SOURCE
    for module in pkgutil.iter_modules(__path__)
    if module.name != "base"
}
