"""Pack a finished row as a small released model: ``ctrlrec release runs/evaluate/NAME models/NAME``.

With the folder one can recommend without training. Data sets with a download of their own may not be passed on as a
rule: their titles are left out, and fetched from where they are published at first use. The tokenizer of a backbone
from scratch is left out with them, because its tokens spell titles.
"""

import argparse
import json
import shutil
import string
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from ctrlrec.app.again import answers, metrics_from, sample_digests
from ctrlrec.app.loading import FORMAT, RECORD, Parts, load
from ctrlrec.config.compose import plain
from ctrlrec.config.seeds import seed_of_row
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.metrics import metrics_of
from ctrlrec.lm.adapters import tokenizer_digest
from ctrlrec.reporting.kept import without_places
from ctrlrec.reporting.made import public_command
from ctrlrec.runtime import results
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.files import record_files, sha256_of, write_text
from ctrlrec.runtime.printing import command
from ctrlrec.teacher.models.base import DESCRIPTION, WEIGHTS

LARGEST = 10_000_000  # bytes of weights
# Sections that decide what is asked and how answers are read; everything else depends on the machine.
_SECTIONS = (
    *("seed", "dataset", "model", "indexing", "teacher", "instructions", "reward", "variant"),
    *("generation", "constraint", "evaluation"),
)
_FREE = "Lists may hold invented titles, titles of the history and repeats; `--explain` marks them."
_CONSTRAINED = (
    "Answers keep to `constraint={}`, as in the table below, unless `--constraint` names another. With `--constraint "
    "none` lists may hold invented titles, titles of the history and repeats; `--explain` marks them."
)
_OWN = "records"  # the source of data that have no download
_INSIDE = (
    "`data/` holds titles and categories of the catalogue, with the number of interactions of each item in training, "
    "and the tokenizer. No interaction of a user is in this folder."
)
_FETCHED = (
    "The folder holds no title, no category and no interaction. The data set is fetched from where it is published at "
    "first use (`CTRLREC_CACHE` names the folder), and checked against the checksums in `release.json`."
)
_TERMS = {
    "movielens": "The weights were trained on MovieLens data of GroupLens, University of Minnesota. Its terms allow "
    "research, with an acknowledgement; they allow neither passing the data on nor commercial use without permission. "
    "Cite Harper and Konstan, The MovieLens Datasets (2015).",
}
_OTHER_TERMS = "The weights were trained on data that come under terms of their own; see where they come from."
_SHOWN = ("HR@10", "NDCG@10", "TCP@10", "CPA", "all_satisfied", "CorrectCount", "RepeatItem@K", "NonExist@K")


def release(run: Path, out: Path) -> Path:
    """Pack a row: weights in bfloat16, teacher, model card, and the numbers of these very weights.

    Args:
        run: folder of a finished result of the stage evaluate.
        out: folder to write, which must not exist.

    Returns:
        The folder.

    Raises:
        CtrlRecError: for a row without a small model of its own, weights of more than 10 MB, or a folder that exists.
    """
    if out.exists():
        raise CtrlRecError(f"{out}: exists; give a folder that does not")
    parts, record = load(run), results.read(run)
    upstream = results.made_from(run, record["upstream"])
    if parts.model is None or not (run / "metrics.json").is_file():
        raise CtrlRecError(f"{run}: expected a row whose model answers, such as runs/evaluate/NAME-full-...")
    if parts.config.model.kind != "llama_mini":
        raise CtrlRecError(
            f"{run}: model.kind={parts.config.model.kind}: only a backbone from scratch is small enough; "
            "publish others with 'ctrlrec merge'"
        )
    inside = parts.config.dataset.source == _OWN
    if not inside and record["config"]["instructions"]["chat_path"] is not None:
        raise CtrlRecError(
            f"{run}: its tokenizer learnt from dialogues of instructions.chat_path, which nobody can fetch; train "
            "with instructions.chat_path=null"
        )
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model: Any = parts.model
    model.to(torch.bfloat16).save_pretrained(partial / "model")
    for name in (WEIGHTS, DESCRIPTION):
        shutil.copyfile(upstream["teacher"] / name, partial / name)
    if (size := weight_bytes(partial)) > LARGEST:
        shutil.rmtree(partial)
        raise CtrlRecError(f"{run}: {size:,} bytes of weights; at most {LARGEST:,} are packed, use a smaller model")
    if inside:
        (partial / "data").mkdir()
        shutil.copyfile(upstream["data"] / "catalogue.jsonl", partial / "data" / "catalogue.jsonl")
        write_text(partial / "data" / "sequences.jsonl", "")  # no user's items
        shutil.copytree(upstream["data"] / "tokenizer", partial / "data" / "tokenizer")
    described = _record(out.name, parts, record, upstream["data"], inside)
    write_text(partial / RECORD, json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    record_files(partial)
    packed = load(partial)
    rows = answers(packed, parts.builder, packed.config)
    metrics = metrics_from(rows, packed.config, parts.builder)
    described["answers"] = sample_digests(rows, parts.builder)
    write_text(partial / RECORD, json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    write_text(partial / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    before = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    write_text(partial / "README.md", model_card(described, metrics, before, size))
    record_files(partial)
    partial.rename(out)
    return out


def weight_bytes(folder: Path) -> int:
    """Return the bytes of all weights below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def _record(name: str, parts: Parts, record: Mapping[str, Any], data: Path, inside: bool) -> dict[str, Any]:
    """Return the contents of ``release.json``; of the machine that packed it only the hardware."""
    config = {section: part for section, part in without_places(plain(parts.config)).items() if section in _SECTIONS}
    if not inside:
        config["dataset"]["path"] = None  # fetched from where it is published, whatever copy the run read
    kept = ("git_commit", "packages", "hardware", "seed", "wall_seconds")
    upstream = {stage: made["fingerprint"] for stage, made in record["upstream"].items()}
    of_rl = seed_of_row(parts.config)
    return {
        "format": FORMAT,
        "name": name,
        "config": config,
        "data": {
            "titles": "inside" if inside else "fetched",
            "catalogue": sha256_of(data / "catalogue.jsonl"),
            "sequences": sha256_of(data / "sequences.jsonl"),
            "tokenizer": tokenizer_digest(parts.chat_format.tokenizer),
        },
        "made": {
            "command": public_command(record["command"]),
            **{key: record.get(key) for key in kept},
            **({"rl_seed": of_rl} if of_rl != parts.config.seed else {}),
            "upstream": upstream,
        },
    }


def model_card(record: Mapping[str, Any], metrics: Mapping[str, Any], run: Mapping[str, Any], size: int) -> str:
    """Return the README of a released model.

    Args:
        record: ``release.json``.
        metrics: of the released weights.
        run: ``metrics.json`` of the row that was packed.
        size: bytes of the weights.
    """
    config, made, inside = record["config"], record["made"], record["data"]["titles"] == "inside"
    source = config["dataset"]["source"]
    values = {
        "name": record["name"],
        "row": config["variant"]["name"],
        "description": config["variant"]["description"],
        "dataset": config["dataset"]["name"],
        "model": config["model"]["name"],
        "size": f"{size / 1e6:.1f}",
        "history": str(config["dataset"]["history_length"]),
        "users": str(config["evaluation"]["users"] or "all"),
        "holds": _INSIDE if inside else _FETCHED,
        "lists": _CONSTRAINED.format(name) if (name := _constraint(config)) != "none" else _FREE,
        "terms": next((terms for name, terms in _TERMS.items() if source.startswith(name)), _OTHER_TERMS),
        "table": _table(metrics["settings"], run["settings"]),
        "command": made["command"],
        "commit": str(made["git_commit"]),
        "seed": str(made["seed"]) + (f", RL's own seed {made['rl_seed']}" if "rl_seed" in made else ""),
        "made": json.dumps(made, indent=2, ensure_ascii=False),
    }
    text = resources.files("ctrlrec.app").joinpath("model_card.md").read_text(encoding="utf-8")
    return string.Template(text).substitute(values)


def _constraint(config: Mapping[str, Any]) -> str:
    """Return the name of the constraint that answers keep to."""
    return config["constraint"]["name"] if config["evaluation"]["constrained"] else "none"


def card_lines(settings: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the lines of the card's table by setting and metric, without the cells after the interval.

    Args:
        settings: of the ``metrics.json`` of the released weights.
    """
    lines = {}
    for setting, cells in settings.items():
        known = metrics_of(setting)
        for name in (name for name in _SHOWN if name in cells and name in known):
            cell, shown = cells[name], known[name].shown
            interval = f"{shown(cell['low'])} to {shown(cell['high'])}"
            lines[setting, name] = f"| {setting} | {known[name].head} | {shown(cell['value'])} | {interval} |"
    return lines


def _table(settings: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Return the main numbers as Markdown, those of the run before its weights were rounded beside them."""
    lines = ["| setting | metric | released | 95% interval | the run |", "| --- | --- | ---: | --- | ---: |"]
    for (setting, name), line in card_lines(settings).items():
        before = run.get(setting, {}).get(name)
        lines.append(f"{line} {'' if before is None else metrics_of(setting)[name].shown(before['value'])} |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Pack a finished row as a released model of at most 10 MB.")
    made.add_argument("run", type=Path, help="folder of a finished result, such as runs/evaluate/NAME")
    made.add_argument("out", type=Path, help="folder to write, such as models/NAME; its name is the model's")
    return made


@command
def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    with explained(arguments.out):
        folder = release(arguments.run, arguments.out)
    print(f"{folder}: {weight_bytes(folder) / 1e6:.1f} MB of weights; try: ctrlrec recommend --model {folder}")
    if (folder / "data").is_dir():
        print("It holds titles and categories: pass it on only if the terms of the data allow that.")


if __name__ == "__main__":
    sys.exit(main())
