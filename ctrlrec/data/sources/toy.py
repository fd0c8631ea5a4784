"""Toy: invented films and users that ship with the package, in the format of records."""

from dataclasses import replace
from pathlib import Path

from ctrlrec.config.schema import DatasetConfig
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.sources.records import SOURCE as RECORDS

_FOLDER = Path(__file__).resolve().parents[1] / "toy"


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    folder = Path(config.path) if config.path else _FOLDER
    return find(folder, ["interactions.csv"]), find(folder, ["items.jsonl"])


SOURCE = replace(RECORDS, locate=_locate)
