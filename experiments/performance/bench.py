"""Each part of the work against what a user would run instead, and against what the machine can do.

    make bench
    python experiments/performance/bench.py --parts sl,decoding,rl:1 --pairs 5
    python experiments/performance/bench.py --quick

Both sides of a part run in fresh processes, A B A B; the ratio of a pair is that of two neighbouring runs. Writes
results.json and results.md beside this file and appends a line to history.jsonl. Parts that are not asked for stay on
the page where hardware and packages are still the same. What was measured stays in the scratch folder until the
measurement is complete: an interrupted one continues where it was. Linux only.
"""

import argparse
import datetime
import importlib
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from measuring import compare, history_line, in_fresh_process, load, measure, peak_memory, regressions  # noqa: E402

from ctrlrec.runtime import files, provenance  # noqa: E402

PARTS = ("limits", "cold_start", "throughput", "decoding", "constraints", "sl", "rl", "teacher", "teacher_1m")


def part_of(name: str) -> Any:
    return importlib.import_module(f"parts.{name}")


def run_side(part: str, side: str, sizes: str, result: Path, scratch: Path) -> None:
    """In a process of its own: one side, or ``prepare``."""
    module, asked = part_of(part), json.loads(sizes)
    before, started = load(), time.perf_counter()
    made = (module.prepare if side == "prepare" else module.SIDES[side])(scratch, asked) or {}
    made |= {"process_seconds": time.perf_counter() - started, "peak_bytes": peak_memory(), "load": before,
             "git_commit": provenance.git_commit()}  # fmt: skip
    files.write_text(result, json.dumps(made))


def measured(name: str, quick: bool, pairs: int, scratch: Path) -> dict[str, Any]:
    """A part's metrics, what its check says, and the runs behind them."""
    part = part_of(name)
    sizes = part.QUICK if quick else part.FULL
    in_fresh_process(name, "prepare", sizes, scratch)
    runs = measure(part, sizes, pairs, scratch)
    return {
        "about": part.__doc__.split("\n")[0],
        "date": datetime.date.today().isoformat(),
        "sizes": sizes,
        "pairs": pairs,
        "metrics": [compare(metric, runs["ours"], runs.get("peer", [])) for metric in part.METRICS],
        "check": part.check(runs) if hasattr(part, "check") else {},
        "load": max(run["load"] for made in runs.values() for run in made),
        "runs": {side: [{key: value for key, value in run.items() if not key.endswith("_tokens")} for run in made]
                 for side, made in runs.items()},
    }  # fmt: skip


def fractions(parts: dict[str, Any]) -> dict[str, float]:
    """The share of the machine's limit that SL and decoding reach."""
    if "limits" not in parts:
        return {}
    limits = parts["limits"]["runs"]["ours"][0]
    found = {}
    if "sl" in parts:
        run = parts["sl"]["runs"]["ours"][0]
        # A token's forward pass is two operations a weight; the frozen weights' backward pass is two more.
        found["sl_of_matrix_product_rate"] = (
            4e-9 * run["parameters"] * run["tokens_per_second"] / limits["training_gflops"]
        )
    if "decoding" in parts:
        run = parts["decoding"]["runs"]["ours"][0]
        read = 1e-9 * run["weights"] * limits["bytes_a_weight"] / limits["read_gigabytes_per_second"]
        found["decoding_of_weight_read_rate"] = read / run["greedy_seconds_a_step"]
    return found


def markdown(results: dict[str, Any]) -> str:
    """The page that a reader opens."""
    hardware, versions = results["hardware"], results["packages"]
    lines = [
        "# Performance",
        "",
        f"`make bench`, last `{results['command']}`, {hardware['cores']} CPU cores "
        f"({hardware['machine']}, with{'' if hardware['native_bfloat16'] else 'out'} bfloat16 units), "
        + ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "transformers", "trl", "peft"))
        + ". Median (min to max) over pairs; a ratio above 1 means that this project is ahead. Load says how many "
        "processes wanted a core when a run began: with others beside it, only ratios say something.",
        "",
        "| part | metric | this project | peer | ratio | aimed at | pairs | load |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, part in results["parts"].items():
        for row in part["metrics"]:
            aim = row["aim"]
            target = f"ratio {row['target']:g}" if row["target"] else f"{aim:,} {row['unit']}" if aim else ""
            cells = [shown(row["ours"], row["unit"]), shown(row["peer"], row["unit"]), shown(row["ratio"], "")]
            lines.append(f"| {name} | {row['metric'].replace('_', ' ')} | " + " | ".join(cells)
                         + f" | {target} | {part['pairs']} | {part['load']:.1f} |")  # fmt: skip
    lines += ["", "## The parts", ""]
    for name, part in results["parts"].items():
        commits = dict.fromkeys(run["git_commit"] or "unknown" for runs in part["runs"].values() for run in runs)
        lines.append(f"- **{name}**: {part['about']} {part['date']}, commit {', '.join(commits)}.")
    checks = [f"- {name}: {key.replace('_', ' ')}: {value}"
              for name, part in results["parts"].items() for key, value in part["check"].items()]  # fmt: skip
    lines += ["", "## Equality", "", *checks] if checks else []
    shares = [f"- {name.replace('_', ' ')}: {100 * value:.0f}%" for name, value in results["fractions"].items()]
    lines += ["", "## Share of the machine's limit", "", *shares] if shares else []
    lost = [f"- {name}: {before:.3g} before, {now:.3g} now" for name, (before, now) in results["regressions"].items()]
    lines += ["", "## Behind earlier measurements", "", *(lost or ["Nothing by more than 15%."])]
    return "\n".join(lines) + "\n"


def shown(values: dict[str, float] | None, unit: str) -> str:
    if values is None:
        return ""
    scale, unit = (1e9, "GB") if unit == "bytes" else (1, unit)
    median, low, high = (f"{values[key] / scale:,.4g}" for key in ("median", "min", "max"))
    return f"{median} ({low} to {high}) {unit}".rstrip()


def kept_parts(path: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Parts of an earlier page that can stand beside new ones: measured alike, on such hardware, with such packages."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key in ("quick", "hardware", "packages") if earlier[key] != results[key]]
    others = [name for name in earlier["parts"] if name not in results["parts"]]
    if changed and others:
        print(f"{', '.join(others)}: left out, for {' and '.join(changed)} changed since they were measured")
    return {} if changed else earlier["parts"]


def parts_and_pairs(text: str) -> dict[str, int | None]:
    """Parts and their numbers of pairs, None if ``--pairs`` decides."""
    return {name: int(count) if count else None for name, _, count in (word.partition(":") for word in text.split(","))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts",
        type=parts_and_pairs,
        default=",".join(PARTS),
        help="of " + ", ".join(PARTS) + "; NAME:PAIRS for one part",
    )
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, not how fast it is")
    parser.add_argument("--scratch", type=Path, default=HERE.parents[1] / "runs" / "benchmark")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results and history")
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    scratch = arguments.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    if arguments.side:
        part, side, sizes, result = arguments.side
        return run_side(part, side, sizes, Path(result), scratch)
    names = list(arguments.parts)
    if unknown := set(names) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; valid: {', '.join(PARTS)}")
    parts = {name: measured(name, arguments.quick, pairs or arguments.pairs, scratch)
             for name, pairs in arguments.parts.items()}  # fmt: skip
    measures = [name if pairs is None else f"{name}:{pairs}" for name, pairs in arguments.parts.items()]
    told = ["--parts", ",".join(measures), "--pairs", str(arguments.pairs), *["--quick"] * arguments.quick]
    results: dict[str, Any] = {
        "command": shlex.join(["python", "experiments/performance/bench.py", *told]),
        "date": datetime.date.today().isoformat(),
        "quick": arguments.quick,
        **provenance.circumstances(),
        "peers": (HERE / "peers.txt").read_text(encoding="utf-8").split(),
        "parts": parts,
    }
    kept = arguments.out / "history.jsonl"
    history = [*(files.read_jsonl(kept) if kept.exists() else []), history_line(results)]
    known = kept_parts(arguments.out / "results.json", results) | parts
    results["parts"] = {name: known[name] for name in PARTS if name in known}
    results["fractions"] = fractions(results["parts"])
    better = {f"{name}/{metric.key}": metric.more for name in names for metric in part_of(name).METRICS
              if "peer" not in part_of(name).SIDES}  # fmt: skip
    results["regressions"] = regressions(history, better)
    files.write_text(arguments.out / "results.json", json.dumps(results, indent=1) + "\n")
    files.write_text(arguments.out / "results.md", markdown(results))
    files.write_jsonl(kept, history)
    for name in names:
        (scratch / "measured" / f"{name}.json").unlink()
    print(markdown(results))


if __name__ == "__main__":
    main()
