"""Writes what other trainers read: ``python -m ctrlrec.export prompts RUN_FOLDER --out DIR``.

RUN_FOLDER is that of a finished stage ``instructions``, such as ``runs/instructions/NAME``, or of a later stage that
was made from it. DIR then holds ``train.parquet`` and ``validation.parquet`` for ``datasets.load_dataset(DIR)``, TRL
and verl.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ctrlrec.config.schema import ModelConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards.recorded import UNREWARDED, finished_run
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.files import check_files, read_jsonl
from ctrlrec.runtime.printing import command

_FILES = {"train": "instructions.jsonl", "validation": "validation.jsonl"}
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_SCHEMA = pa.schema(
    [
        ("prompt", _MESSAGES),
        ("instruction", pa.string()),
        ("data_source", pa.string()),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("split", pa.string()), ("index", pa.int64()), ("run", pa.string())])),
    ]
)
_ROWS_AT_ONCE = 4096


def prompts(folder: Path, out: Path) -> dict[str, int]:
    """Write the instructions of a run that have a reward, all but search and chat, as parquet files.

    A row holds the prompt as messages; the line of ``instructions.jsonl`` as JSON, the teacher's ranks of the labels
    included; and the columns of verl, whose ``ground_truth`` is that JSON again.

    Args:
        folder: of the stage ``instructions``, or of a later one.
        out: folder for the files, which must not be there yet.

    Returns:
        The number of rows of each file.

    Raises:
        CtrlRecError: for another folder, an altered result, or a file that exists.
    """
    upstream, config = finished_run(folder)
    source = upstream["instructions"]
    check_files(source)
    chat_format = ChatFormat.load(upstream["data"] / "tokenizer", ModelConfig(**config["model"]))
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for split, name in _FILES.items():
        path = out / f"{split}.parquet"
        if path.exists():
            raise CtrlRecError(f"{path}: exists; give a folder without it")
        lines = [line for line in read_jsonl(source / name) if line["task"] not in UNREWARDED]
        rows = _rows(lines, split, chat_format, config, source)
        with parquet.ParquetWriter(path, _SCHEMA, compression="zstd") as file:
            for begin in range(0, len(lines), _ROWS_AT_ONCE):
                part = [next(rows) for _ in lines[begin : begin + _ROWS_AT_ONCE]]
                file.write_table(pa.Table.from_pylist(part, _SCHEMA))
        counts[split] = len(lines)
    return counts


def _rows(
    lines: Iterable[Mapping[str, Any]], split: str, chat_format: ChatFormat, config: Mapping[str, Any], source: Path
) -> Iterator[dict[str, Any]]:
    told = config["model"]["system_prompt"]
    for index, line in enumerate(lines):
        turns = (("user", line["prompt"]),)
        messages = chat_format.turns((("system", told), *turns) if told else turns)
        instruction = json.dumps(line, ensure_ascii=False)
        yield {
            "prompt": [{"role": role, "content": content} for role, content in messages],
            "instruction": instruction,
            "data_source": f"ctrlrec/{config['dataset']['name']}",
            "ability": "recommendation",
            "reward_model": {"style": "rule", "ground_truth": instruction},
            "extra_info": {"split": split, "index": index, "run": str(source.resolve())},
        }


@command
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ctrlrec.export", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    chosen = commands.add_parser("prompts", help="instructions with their prompts, as parquet")
    chosen.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="of a finished stage instructions or later")
    chosen.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the parquet files")
    arguments = parser.parse_args()
    with explained(arguments.out):
        counts = prompts(arguments.folder, arguments.out)
    print(", ".join(f"{count} rows in {arguments.out / split}.parquet" for split, count in counts.items()))


if __name__ == "__main__":
    sys.exit(main())
