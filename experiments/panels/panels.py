"""Pictures of W&B panels from offline runs: ``python experiments/panels/panels.py RUNS [FOLDER]``.

RUNS is the ``output=`` of a sweep with ``logger=offline``. Pictures that the sweep logged are copied as they are.
Line panels are drawn from the logged history, one line a run. FOLDER is ``docs/panels`` unless given.
"""

import json
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting.figures import draw
from ctrlrec.runtime.printing import command

ROOT = Path(__file__).resolve().parents[2]
COPIED = {"whiskers": "whiskers/category_positive_*.png", "differences": "differences/*.png"}
DRAWN = {
    "lines-sl": {"train/loss": r"sl-.* train/loss", "validation/loss": r"sl-.* validation/loss"},
    "lines-rl": {"reward/total": r"rl-.* reward/total", "illegal/repeat": r"rl-.* illegal/repeat"},
}
_BLOCK, _HEADER = 32768, 7


def records_of(file: Path) -> Iterator[Any]:
    """Records of a ``run-ID.wandb`` file, in order: a log of blocks of 32 KiB that hold whole records or parts."""
    data, position, parts = file.read_bytes(), _HEADER, b""
    if not data.startswith(b":W&B"):
        raise CtrlRecError(f"{file}: expected the log of an offline W&B run")
    while position + _HEADER <= len(data):
        if (room := _BLOCK - position % _BLOCK) < _HEADER:  # a block's end too short for a header
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + _HEADER])
        parts += data[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def history_of(file: Path) -> tuple[str, dict[str, dict[int, float]]]:
    """Name of a run, and its logged numbers as {name: {step: value}}."""
    name, found = file.stem, {}
    for record in records_of(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            name = record.run.display_name
        elif kind == "history":
            values = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            step = values.get("trainer/global_step", record.history.step.num)
            for key, value in values.items():
                if isinstance(value, int | float) and not key.startswith("_"):
                    found.setdefault(key, {})[int(step)] = float(value)
    return name, found


def panels(runs: Path, folder: Path) -> list[Path]:
    """Copy and draw the panels; return their files."""
    files = sorted(runs.glob("*/*/wandb/offline-run-*/run-*.wandb"))
    if not files:
        raise CtrlRecError(f"{runs}: no offline run there; run a sweep with logger=offline output={runs}")
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, pattern in COPIED.items():
        for media in sorted(runs.glob(f"tables/*/wandb/offline-run-*/files/media/images/{pattern}"))[:1]:
            made.append(Path(shutil.copyfile(media, folder / f"{name}.png")))
    lines = {}
    for file in files:
        run, found = history_of(file)
        lines |= {f"{run} {key}": values for key, values in found.items()}
    for name, drawn in DRAWN.items():
        if draw(lines, drawn, folder / f"{name}.png"):
            made.append(folder / f"{name}.png")
    return made


@command
def main() -> None:
    if len(sys.argv) < 2 or re.match("-", sys.argv[1]):
        raise CtrlRecError("panels.py RUNS [FOLDER]: name the output= of a sweep with logger=offline")
    print(*panels(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "panels"), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
