"""The settings that the split decides, and names of data sets that are not split by default."""

from collections.abc import Mapping
from typing import Any

from ctrlrec.config.schema import Split

_KEYS = ("split", "validation_share", "test_share")


def _is_default(split: Any) -> bool:
    """Return whether a split is the paper's; results of earlier versions name none."""
    return split in (None, Split.last_out)


def deciding(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a data set that decide its data: those of the split only if it is not the default.

    Args:
        dataset: the section ``dataset`` as plain containers.
    """
    but = _KEYS if _is_default(dataset.get("split")) else ()
    return {key: value for key, value in dataset.items() if key not in but}


def data_label(dataset: Any) -> str:
    """Return what folders and tables call a data set: its name, with the split unless it is the default.

    Args:
        dataset: the section ``dataset``, as plain containers or as a configuration.
    """
    settings: Mapping[str, Any] = dataset if isinstance(dataset, Mapping) else vars(dataset)
    split: Any = settings.get("split")
    return settings["name"] if _is_default(split) else f"{settings['name']}-{Split(split).value}"
