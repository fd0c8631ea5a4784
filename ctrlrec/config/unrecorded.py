"""Keys that older records lack, with the values that ran before the keys existed."""

from collections.abc import Mapping
from typing import Any

# By section of the configuration; options of an algorithm by the algorithm's name.
UNRECORDED: Mapping[str, Mapping[str, Any]] = {
    "instructions": {"search_item_count_max": None},
    "sl": {"soft_labels_end": None},
    "rl": {"kl_loss_coefficient": 0.0, "guided_row": "none", "corrected_row": False},
    "reward": {"missing_item": 0.0},
    "item_grpo": {"scale": "group"},
}


def completed(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded settings with the keys that their record lacks.

    Args:
        section: of the configuration, such as ``rl``, or the name of an algorithm.
        settings: of the section, or the options of the algorithm.
    """
    made = {**UNRECORDED.get(section, {}), **settings}
    if algorithm := made.get("algorithm"):
        made["algorithm"] = {**algorithm, "options": completed(algorithm["name"], algorithm["options"])}
    return made


def as_before(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without the keys of :data:`UNRECORDED` that have the value there.

    So a result keeps the fingerprint that it had before the keys existed.

    Args:
        section: of the configuration, such as ``rl``, or the name of an algorithm.
        settings: of the section, or the options of the algorithm.
    """
    ran = UNRECORDED.get(section, {})
    made = {key: value for key, value in settings.items() if key not in ran or value != ran[key]}
    if algorithm := made.get("algorithm"):
        made["algorithm"] = {**algorithm, "options": as_before(algorithm["name"], algorithm["options"])}
    return made
