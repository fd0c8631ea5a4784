"""Composes the real configuration as the command line does."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from ctrlrec.config import files


def composed(*overrides: str) -> DictConfig:
    """Return the configuration before it is validated."""
    return files.composed("config", *overrides)


def flat(node: Any) -> dict[str, Any]:
    """Dotted keys and their values; a list is one value."""
    values: dict[str, Any] = {}
    for key, value in OmegaConf.to_container(node, resolve=True, enum_to_str=True).items():
        values |= _flat(key, value)
    return values


def _flat(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: value}
    return {name: leaf for inner, child in value.items() for name, leaf in _flat(f"{key}.{inner}", child).items()}


def differing(left: tuple[str, ...], right: tuple[str, ...]) -> set[str]:
    """Keys whose values differ between two lists of overrides; options that one choice alone has are among them."""
    a, b = flat(composed(*left)), flat(composed(*right))
    assert all(".options." in key for key in a.keys() ^ b.keys())
    return {key for key in a.keys() | b.keys() if key not in a or key not in b or a[key] != b[key]}
