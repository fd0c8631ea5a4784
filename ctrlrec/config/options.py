"""Settings that only one choice has, such as the heads of a teacher with attention.

The choice's module declares them as a dataclass, so that the schema needs no line about them.
"""

from collections.abc import Mapping
from dataclasses import Field
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from ctrlrec.config.choices import Choices, nearest
from ctrlrec.config.schema import Config, leaves
from ctrlrec.errors import CtrlRecError

T = TypeVar("T")

# Keys that choose a module; ``options`` stands beside them. The choice names their dataclass as ``Options``.
_CHOSEN: dict[str, Choices[Any]] = {
    "teacher.model": Choices("teacher.models", "TEACHER"),
    "rl.algorithm.name": Choices("rl.algorithms", "ALGORITHM"),
}


def check_bounds(key: str, value: Any, entry: Field) -> None:
    """Refuse a number outside the bounds that its field declares.

    Raises:
        CtrlRecError: naming the key and the bounds.
    """
    low, high = entry.metadata.get("low"), entry.metadata.get("high")
    if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise CtrlRecError(f"{key}={value}: expected a number {bounds}")


def typed_options(schema: type[T], given: Mapping[str, Any], key: str) -> T:
    """Return options as an instance of the dataclass that declares them.

    Args:
        schema: declares names, types and bounds, with :func:`ctrlrec.config.schema.bounded`.
        given: values by name.
        key: of the options, such as ``teacher.options``; messages begin with it.

    Raises:
        CtrlRecError: for an unknown name, a missing value, a wrong type or a number out of bounds.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), given)
        missing = OmegaConf.missing_keys(merged)
    except ConfigKeyError as error:
        known, unknown = [name for name, _ in leaves(schema)], str(error.full_key)
        # Names alone: with the section in front of all, any two of them look alike.
        advice = nearest(unknown, known) if known else "the chosen module has no options; set it by its group"
        raise CtrlRecError(f"unknown key '{key}.{unknown}': {advice}") from None
    except (ValidationError, OmegaConfBaseException) as error:
        raise CtrlRecError(f"{key}.{error.full_key}: {str(error).splitlines()[0]}") from None
    if missing:
        raise CtrlRecError(f"no value for {', '.join(f'{key}.{name}' for name in sorted(missing))}")
    for name, entry in leaves(schema):
        check_bounds(f"{key}.{name}", OmegaConf.select(merged, name), entry)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def check_options(config: Config) -> None:
    """Check the options of every chosen module.

    Raises:
        CtrlRecError: see :func:`typed_options`.
    """
    for key, choices in _CHOSEN.items():
        section = key.rpartition(".")[0]
        node: Any = OmegaConf.select(config, section)  # type: ignore[arg-type]
        choice = choices[OmegaConf.select(config, key)]  # type: ignore[arg-type]
        typed_options(choice.Options, node.options, f"{section}.options")


def settle_numbers(config: Config) -> None:
    """Write whole numbers among options as integers, so that a result is known by a value and not by its spelling."""
    for key in _CHOSEN:
        node: Any = OmegaConf.select(config, key.rpartition(".")[0])  # type: ignore[arg-type]
        for name, value in node.options.items():
            if isinstance(value, float) and value.is_integer():
                node.options[name] = int(value)


def option_keys(word: str) -> list[str]:
    """Return the dotted keys of the options that every choice of ``word``'s section has; none for other words."""
    found = []
    for key, choices in _CHOSEN.items():
        prefix = f"{key.rpartition('.')[0]}.options."
        if word.startswith(prefix):
            found += [name for choice in choices.values() for name, _ in leaves(choice.Options, prefix)]
    return list(dict.fromkeys(found))
