"""Compose a configuration, merge it into the schema, check it and freeze it."""

from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from ctrlrec.config.checks import check
from ctrlrec.config.choices import nearest
from ctrlrec.config.files import choices_of, composed
from ctrlrec.config.schema import Config, VariantConfig, known_keys
from ctrlrec.errors import CtrlRecError

T = TypeVar("T")


def compose(*overrides: str) -> Config:
    """The configuration of ``python -m ctrlrec OVERRIDES``, for scripts and notebooks.

    Args:
        overrides: words of the command line, such as ``variant=full``.

    Raises:
        CtrlRecError: see :func:`validate`.
        HydraException: for a choice that does not exist.
    """
    return validate(composed("config", *overrides))


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
    try:
        config = OmegaConf.merge(OmegaConf.structured(Config), composed)
        OmegaConf.resolve(config)
        missing = OmegaConf.missing_keys(config)
    except ConfigKeyError as error:
        raise CtrlRecError(f"unknown key '{error.full_key}': {nearest(str(error.full_key), known_keys())}") from None
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise CtrlRecError(f"{error.full_key}: {reason}") from None
    except OmegaConfBaseException as error:
        raise CtrlRecError(f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}") from None
    if missing:
        raise CtrlRecError(f"no value for {', '.join(sorted(missing))}: choose a group or set key=value")
    check(config)  # type: ignore[arg-type]
    OmegaConf.set_readonly(config, True)
    return config  # type: ignore[return-value]


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
        whole = OmegaConf.merge(teacher, composed(f"variant/{name}"))
        OmegaConf.resolve(whole)
        node = OmegaConf.merge(OmegaConf.structured(VariantConfig), whole.variant)
        return OmegaConf.to_object(node)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise CtrlRecError(f"{path}: variant.{error.full_key}: {str(error).splitlines()[0]}") from None


def sampling_engine(config: Config) -> str:
    """``generation.engine`` for RL, which samples in its own process: vllm and api answer in evaluation alone."""
    return "auto" if config.generation.engine in ("vllm", "api") else config.generation.engine


def plain(config: Any) -> Any:
    """A configuration node as plain JSON-able containers."""
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)


def typed(section: T) -> T:
    """A section as its plain dataclass, for loops that read it at every sample: OmegaConf takes microseconds a read."""
    return OmegaConf.to_object(section) if OmegaConf.is_config(section) else section  # type: ignore[return-value]
