"""Which rows of a sweep share a result, for what Weights & Biases shows of it."""

import functools
import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from ctrlrec.config.compose import validate
from ctrlrec.config.schema import Config
from ctrlrec.pipeline.plan import Step, planned

log = logging.getLogger(__name__)


def sharing(step: Step, config: Config) -> list[str]:
    """Return the variants of this sweep that use the result of a step; outside a sweep the row's own.

    Args:
        step: of the row.
        config: of the row.
    """
    own = config.variant.name
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return [own]
    row = tuple(HydraConfig.get().overrides.task)
    plans = _plans(row, Path(HydraConfig.get().runtime.output_dir).parent / "multirun.yaml")
    return list(dict.fromkeys([own, *(name for name, plan in plans if plan.get(step.name) == step.fingerprint)]))


@functools.cache
def _plans(row: tuple[str, ...], sweep: Path) -> list[tuple[str, dict[str, str]]]:
    """Return name and fingerprints of every variant of a sweep, all else being as in one of its rows.

    Args:
        row: the row's own words.
        sweep: what Hydra leaves of a sweep before its first row.
    """
    parser = OverridesParser.create()
    try:
        left = OmegaConf.load(sweep).hydra
        words = [f"{key}={value}" for key, value in (left.sweeper.get("params") or {}).items()]
        overrides = parser.parse_overrides([*words, *left.overrides.task])
        swept = [one for one in overrides if one.key_or_group == "variant" and one.is_sweep_override()]
        names = list(swept[-1].sweep_string_iterator()) if swept else []
        others = [word for word in row if parser.parse_override(word).key_or_group != "variant"]
        configs = [validate(hydra.compose("config", [*others, f"variant={name}"])) for name in names]
        return [(config.variant.name, planned(config)) for config in configs]
    except Exception as error:  # a row that cannot be composed says so itself
        log.debug("the sweep's rows are not known: %s", error)
        return []
