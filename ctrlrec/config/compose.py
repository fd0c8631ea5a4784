"""Compose a configuration, merge it into the schema, check it and freeze it."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from ctrlrec.config.checks import check, check_choices
from ctrlrec.config.choices import nearest
from ctrlrec.config.files import choices_of, composed
from ctrlrec.config.options import settle_numbers
from ctrlrec.config.schema import Config, ConstraintConfig, VariantConfig, known_keys, leaves
from ctrlrec.config.selection import check_selection
from ctrlrec.config.words import TEXT, home, literal, sweep_advice
from ctrlrec.errors import CtrlRecError

T = TypeVar("T")


def compose(*overrides: str) -> Config:
    """Compose the configuration of ``python -m ctrlrec OVERRIDES``, for scripts and notebooks.

    Args:
        overrides: words of the command line, such as ``variant=full``.

    Raises:
        CtrlRecError: see :func:`validate` and :func:`~ctrlrec.config.selection.check_selection`.
        HydraException: for a choice that does not exist.
    """
    words = literal(overrides)
    node = composed("config", *words)
    check_selection(words)
    config = validate(node)
    check_choices(config)
    return config


def validate(composed: DictConfig) -> Config:
    """Merge a composed configuration into the schema, check it, and freeze it.

    Args:
        composed: what Hydra composed, without its own ``hydra`` node.

    Returns:
        A read-only structured configuration; typed as :class:`Config` for readers.

    Raises:
        CtrlRecError: for an unknown key, a wrong type, a value out of range or an impossible pair; the message
            names the key and the nearest valid choice.
    """
    _refuse_numbers(composed)
    try:
        config = OmegaConf.merge(OmegaConf.structured(Config), composed)
        OmegaConf.resolve(config)
        missing = OmegaConf.missing_keys(config)
    except ConfigKeyError as error:
        raise CtrlRecError(f"unknown key '{error.full_key}': {nearest(str(error.full_key), known_keys())}") from None
    except ValidationError as error:
        given = OmegaConf.select(composed, str(error.full_key), throw_on_missing=False)
        given = OmegaConf.to_object(given) if OmegaConf.is_config(given) else given
        advice = sweep_advice(str(error.full_key), given)
        raise CtrlRecError(f"{error.full_key}: {str(error).splitlines()[0]}{advice}") from None
    except OmegaConfBaseException as error:
        raise CtrlRecError(f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}") from None
    if missing:
        raise CtrlRecError(f"no value for {', '.join(sorted(missing))}: choose a group or set key=value")
    _expand(config)
    check(config)  # type: ignore[arg-type]
    settle_numbers(config)  # type: ignore[arg-type]
    OmegaConf.set_readonly(config, True)
    return config  # type: ignore[return-value]


def recorded(config: Mapping[str, Any], **changed: Any) -> Config:
    """Return the configuration of a finished result, with today's default for every key that it was made without.

    Args:
        config: plain containers, as in ``provenance.json``.
        changed: further values, with ``__`` for the dot of a key.

    Raises:
        CtrlRecError: see :func:`validate`.
    """
    node = OmegaConf.create(dict(config))
    absent = [key for key, entry in leaves() if not is_dataclass(entry.type) and not _holds(config, key)]
    if absent:
        today = composed("config")
        for key in absent:
            OmegaConf.update(node, key, OmegaConf.select(today, key), force_add=True)
    for key, value in changed.items():
        OmegaConf.update(node, key.replace("__", "."), value)
    return validate(node)


def _holds(config: Any, key: str) -> bool:
    """Return whether nested mappings have a dotted key."""
    for name in key.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return False
        config = config[name]
    return True


def constraint_settings(name: str) -> ConstraintConfig:
    """Return what ``constraint=NAME`` selects.

    Raises:
        CtrlRecError: for a choice that does not exist, with the nearest one.
    """
    known = choices_of("constraint")
    if name not in known:
        raise CtrlRecError(f"constraint={name}: no such choice; {nearest(name, known)}")
    node = OmegaConf.merge(OmegaConf.structured(ConstraintConfig), composed(f"constraint/{name}").constraint)
    return OmegaConf.to_object(node)  # type: ignore[return-value]


def _refuse_numbers(composed: DictConfig) -> None:
    """Refuse a number in the place of text: YAML reads 2024_06_01 as 20240601, and 007 as 7.

    Raises:
        CtrlRecError: naming the key.
    """
    for key in sorted(TEXT):
        value = OmegaConf.select(composed, key, throw_on_resolution_failure=False)
        if isinstance(value, bool | int | float):
            raise CtrlRecError(f"{key}: expected text, and its YAML file has {value}; put the text into quotes there")


def _expand(config: Any) -> None:
    """Replace ``~`` in every path.

    Raises:
        CtrlRecError: naming the key whose path has no home folder.
    """
    for key, entry in leaves():
        path = OmegaConf.select(config, key) if "path" in entry.metadata else None
        if path is not None:
            try:
                OmegaConf.update(config, key, home(path))
            except CtrlRecError as error:
                raise CtrlRecError(f"{key}={error}") from None


def variants() -> dict[str, VariantConfig]:
    """Return what every file of ``conf/variant/`` says, those of plug-ins included, in the order of the tables.

    Raises:
        CtrlRecError: naming the file and the key that is unknown, missing or of another type.
    """
    read = {name: _variant(name, path) for name, path in choices_of("variant").items()}
    return dict(sorted(read.items(), key=lambda item: (item[1].table.order, item[0])))


def _variant(name: str, path: Path) -> VariantConfig:
    try:
        teacher = {"teacher": {"name": "sasrec"}}  # the paper's, by which the row of the teacher alone is called
        whole = OmegaConf.merge(teacher, composed("row", f"variant={name}"))
        OmegaConf.resolve(whole)
        node = OmegaConf.merge(OmegaConf.structured(VariantConfig), whole.variant)
        return OmegaConf.to_object(node)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise CtrlRecError(f"{path}: variant.{error.full_key}: {str(error).splitlines()[0]}") from None


def plain(config: Any) -> Any:
    """Return a configuration node or a dataclass of one as plain JSON-able containers."""
    config = config if OmegaConf.is_config(config) else OmegaConf.structured(config)
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)


def typed(section: T) -> T:
    """Return a section as its plain dataclass, because OmegaConf takes microseconds a read."""
    return OmegaConf.to_object(section) if OmegaConf.is_config(section) else section  # type: ignore[return-value]
