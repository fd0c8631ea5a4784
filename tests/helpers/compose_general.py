"""The section general of the real configuration, changed."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ctrlrec.config.schema import GeneralConfig

_FILE = Path(__file__).resolve().parents[2] / "conf" / "general" / "none.yaml"


def general_config(**changes: Any) -> GeneralConfig:
    return GeneralConfig(**{**OmegaConf.to_container(OmegaConf.load(_FILE)), **changes})
