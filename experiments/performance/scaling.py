"""How cost grows: with items, users, list length, samples a prompt, model size and rows of a sweep.

    python experiments/performance/scaling.py

Times are processor seconds of one core, best of several repetitions, which other work on a machine disturbs least; the
table gives them relative to the smallest size, and the exponent between the two largest sizes (1: linear). Writes
scaling.json, scaling.md and scaling.png beside this file. ``--quick`` only tries whether it works.
"""

import argparse
import datetime
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from parts import world  # noqa: E402

from ctrlrec.config.schema import Config  # noqa: E402
from ctrlrec.controls.instruction import Instruction  # noqa: E402
from ctrlrec.data.catalogue import Catalogue  # noqa: E402
from ctrlrec.data.sequences import Sequences  # noqa: E402
from ctrlrec.evaluation.matching import TitleMatcher  # noqa: E402
from ctrlrec.generation.decoder.decode import decode  # noqa: E402
from ctrlrec.instructions.builder import InstructionBuilder  # noqa: E402
from ctrlrec.instructions.labels import Demand, answers  # noqa: E402
from ctrlrec.lm.adapters import with_actor_and_critic, with_adapter  # noqa: E402
from ctrlrec.lm.backbone import train_tokenizer  # noqa: E402
from ctrlrec.lm.chat_format import PromptLimit  # noqa: E402
from ctrlrec.lm.parsing import last_tokens, written_items  # noqa: E402
from ctrlrec.pipeline import run as stages  # noqa: E402
from ctrlrec.rewards.judging import judge  # noqa: E402
from ctrlrec.rewards.reward import Reward  # noqa: E402
from ctrlrec.runtime import files, provenance  # noqa: E402
from ctrlrec.teacher.models.sasrec import SASRec, SASRecOptions  # noqa: E402
from ctrlrec.teacher.ranker import Ranker  # noqa: E402

HISTORY, CATEGORIES = 10, 18


@dataclass(frozen=True)
class Curve:
    """Cost of one piece of work over sizes.

    Attributes:
        grows_with: what the sizes count.
        work: what was timed.
        sizes: ascending.
        seconds: processor seconds at each.
    """

    grows_with: str
    work: str
    sizes: list[int]
    seconds: list[float]

    @property
    def relative(self) -> list[float]:
        return [value / self.seconds[0] for value in self.seconds]

    @property
    def exponent(self) -> float:
        return math.log(self.seconds[-1] / self.seconds[-2]) / math.log(self.sizes[-1] / self.sizes[-2])


def timed(work: Callable[[], object], repetitions: int = 3) -> float:
    """Processor seconds of the fastest repetition, after one that does what is done once."""
    work()
    best = math.inf
    for _ in range(repetitions):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def catalogue_of(items: int) -> Catalogue:
    """Films of one to three of a fixed number of categories."""
    random = np.random.default_rng(0)
    kinds = [f"Kind {number}" for number in range(CATEGORIES)]
    chosen = [
        tuple(kinds[kind] for kind in sorted({*row})) for row in random.integers(CATEGORIES, size=(items, 3)).tolist()
    ]
    titles = tuple(f"Film of {random.integers(1900, 2020)}, number {item}" for item in range(items))
    return Catalogue(
        tuple(map(str, range(items))), titles, tuple(chosen), tuple(row[0] for row in chosen), (1,) * items
    )


def teacher_of(items: int) -> Ranker:
    torch.manual_seed(0)
    return Ranker(SASRec(items, HISTORY, SASRecOptions(embedding=64, layers=2, heads=2, dropout=0.0)).double())


def builder_of(config: Config, catalogue: Catalogue, users: int, each: int = 30) -> InstructionBuilder:
    items = np.random.default_rng(1).integers(len(catalogue), size=users * each).astype(np.int32)
    names = tuple(f"u{user}" for user in range(users))
    sequences = Sequences(names, np.arange(users + 1, dtype=np.int64) * each, items, HISTORY)
    limit = PromptLimit(lambda messages: 0, lambda texts: [len(text) // 4 for text in texts], 1024, 512, None)
    return InstructionBuilder(catalogue, sequences, teacher_of(len(catalogue)), config.instructions, limit, 0)


def over(grows_with: str, sizes: list[int], works: Callable[[int], dict[str, Callable[[], object]]]) -> list[Curve]:
    """Times what ``works`` gives for each size."""
    seconds: dict[str, list[float]] = {}
    for size in sizes:
        for name, work in works(size).items():
            seconds.setdefault(name, []).append(timed(work))
    return [Curve(grows_with, name, sizes, values) for name, values in seconds.items()]


def items_works(config: Config, items: int) -> dict[str, Callable[[], object]]:
    catalogue, ranker, random = catalogue_of(items), teacher_of(items), np.random.default_rng(2)
    histories = random.integers(items, size=(16, HISTORY)).tolist()
    asked = random.integers(items, size=(16, 10)).tolist()
    scores = ranker.scores(histories)
    targets = [next(item for item in range(items) if item not in history) for history in histories]
    demands = [Demand(10, catalogue.category_names[row % CATEGORIES], 5, True) for row in range(16)]
    matcher, written = TitleMatcher(catalogue.titles, 3), iter(random.permutation(items).tolist())
    builder = builder_of(config, catalogue, 50)
    return {
        "the teacher ranks 16 answers": lambda: ranker.ranks(histories, asked),
        "labels of 16 instructions": lambda: answers(catalogue, scores, targets, demands),
        "64 search instructions": lambda: [builder._search(0, item) for item in range(64)],
        "a misspelt title is matched": lambda: matcher(catalogue.titles[next(written)].replace("Film", "Filn")),
    }


def users_works(config: Config, catalogue: Catalogue, users: int) -> dict[str, Callable[[], object]]:
    builder = builder_of(config, catalogue, users)
    return {"an epoch of instructions": lambda: builder.epoch(0, ("sequential", "category", "proportion"))}


def list_works(
    tokenizer: PreTrainedTokenizerBase, catalogue: Catalogue, ranker: Ranker, count: int
) -> dict[str, Callable[[], object]]:
    random, paper = np.random.default_rng(3), Reward(world.compose(HERE, "reward=paper").reward)
    rows = random.integers(len(catalogue), size=(64, count)).tolist()
    histories = [tuple(row) for row in random.integers(len(catalogue), size=(64, HISTORY)).tolist()]
    asked = [
        Instruction("category_positive", "u", history, 0, count, catalogue.category_names[0], None, None, ())
        for history in histories
    ]
    titles = [[catalogue.titles[item] for item in row] for row in rows]
    text = "\n".join(f"{place}. {title}" for place, title in enumerate(titles[0], 1))
    tokens, ends = tokenizer(text).input_ids, [item.end for item in written_items(text)]
    written = partial(tokenizer.decode, skip_special_tokens=True)

    def reward() -> None:
        for judgement in judge(asked, titles, catalogue, ranker):
            paper.item(judgement), paper.list(judgement)

    return {
        "64 answers are rewarded": reward,
        "an answer's rewards find their tokens": lambda: last_tokens(written, tokens, text, ends),
    }


def samples_works(tokenizer: PreTrainedTokenizerBase, quick: bool, samples: int) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=680, num_hidden_layers=4, num_attention_heads=4,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(shape).eval()
    prompts = np.random.default_rng(4).integers(5, len(tokenizer), size=(4, 40 if quick else 200)).tolist()
    steps = 8 if quick else 60
    return {"4 prompts are answered": lambda: decode(model, prompts, {len(tokenizer)}, steps, 0.7, samples)}


def weights(shape: LlamaConfig, adapted: Callable[[Any], Any]) -> tuple[int, int]:
    """Numbers of weights, the backbone's and the adapters'; the layers are not made."""
    with torch.device("meta"):
        named = dict(adapted(LlamaForCausalLM(shape)).named_parameters())
    return tuple(sum(w.numel() for key, w in named.items() if (".lora_" in key) == lora) for lora in (False, True))  # type: ignore[return-value]


def models(config: Config) -> list[dict[str, Any]]:
    """What backbones weigh, by their shapes alone."""
    mini = config.model
    shapes = {
        "llama_mini": LlamaConfig(
            vocab_size=mini.vocabulary, hidden_size=mini.hidden_size, num_hidden_layers=mini.layers,
            intermediate_size=8 * mini.hidden_size // 3 // 8 * 8, num_attention_heads=mini.heads,
            tie_word_embeddings=True,
        ),
        "smollm2_135m": LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, tie_word_embeddings=True,
        ),
        "llama2_7b_chat": LlamaConfig(
            vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
        ),
    }  # fmt: skip
    rows = []
    for name, shape in shapes.items():
        whole, sl = weights(shape, lambda model: with_adapter(model, 16, 8))
        _, rl = weights(shape, lambda model: with_actor_and_critic(model, 4, 2))
        width = shape.num_key_value_heads * shape.hidden_size // shape.num_attention_heads
        rows.append({
            "model": name, "parameters": whole, "sl_adapter": sl, "rl_adapters": rl,
            "weights_bfloat16_bytes": 2 * whole, "sl_adapter_training_bytes": 16 * sl,
            "cache_bfloat16_bytes_a_token": 2 * 2 * shape.num_hidden_layers * width, "forward_flop_a_token": 2 * whole,
        })  # fmt: skip
    return rows


def sweeps() -> list[dict[str, Any]]:
    """Results that a sweep makes, and those that its rows would make one by one."""
    made = []
    for variants, seeds in ((["v2"], 1), (["v2", "full"], 1), (["v1", "v2", "v3", "full"], 1),
                            (["v1", "v2", "v3", "full"], 3)):  # fmt: skip
        plans = [
            stages.planned(world.compose(HERE, f"variant={variant}", f"seed={seed}"))
            for variant in variants for seed in range(seeds)
        ]  # fmt: skip
        apart = {name: sum(name in plan for plan in plans) for name in stages.STAGES}
        shared = {name: len({plan[name] for plan in plans if name in plan}) for name in stages.STAGES}
        made.append({"rows": f"variant={','.join(variants)} seed={','.join(map(str, range(seeds)))}",
                     "one_by_one": apart, "shared": shared})  # fmt: skip
    return made


def markdown(results: dict[str, Any], curves: list[Curve]) -> str:
    lines = [
        "# How cost grows", "",
        f"`{results['command']}`, commit {results['git_commit']}, {results['date']}: processor time of one core, the "
        "smallest size as 1; exponent between the two largest sizes. Drawn in `scaling.png`.", "",
        "| grows with | work | sizes | times as much | exponent |", "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for curve in curves:
        sizes = ", ".join(f"{size:,}" for size in curve.sizes)
        relative = ", ".join(f"{value:.3g}" for value in curve.relative)
        lines.append(f"| {curve.grows_with} | {curve.work} | {sizes} | {relative} | {curve.exponent:.2f} |")
    lines += [
        "", "## Model size", "",
        "Weights and cache in bfloat16. SL adapter in training: float32 weight, gradient and Adam's two means.", "",
        "| model | parameters | adapter of SL | adapters of RL | weights | SL adapter in training | cache a token | "
        "FLOP a token forward |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for row in results["models"]:
        shares = [f"{row[key]:,} ({100 * row[key] / row['parameters']:.2f}%)" for key in ("sl_adapter", "rl_adapters")]
        sizes = [row["weights_bfloat16_bytes"] / 1e6, row["sl_adapter_training_bytes"] / 1e6]
        cells = [row["model"], f"{row['parameters']:,}", *shares, *(f"{size:,.0f} MB" for size in sizes)]
        cells += [f"{row['cache_bfloat16_bytes_a_token'] / 1e3:.0f} kB", f"{row['forward_flop_a_token'] / 1e9:.2f}e9"]
        lines.append(f"| {' | '.join(cells)} |")
    names = ["teacher", "sl", "rl", "evaluate"]
    lines += [
        "", "## Rows of a sweep", "", "Results made, and in brackets those that the rows would make one by one.", "",
        f"| sweep | {' | '.join(names)} |", "| --- " * (1 + len(names)) + "|",
    ]  # fmt: skip
    for row in results["sweeps"]:
        cells = " | ".join(f"{row['shared'][name]} ({row['one_by_one'][name]})" for name in names)
        lines.append(f"| `{row['rows']}` | {cells} |")
    return "\n".join(lines) + "\n"


def draw(curves: list[Curve], png: Path) -> None:
    groups = list(dict.fromkeys(curve.grows_with for curve in curves))
    figure = Figure(figsize=(4 * len(groups), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        shown = [curve for curve in curves if curve.grows_with == group]
        for curve in shown:
            axes.loglog(curve.sizes, curve.relative, marker=".", label=curve.work)
        sizes = shown[0].sizes
        axes.loglog(sizes, [size / sizes[0] for size in sizes], color="grey", linestyle=":", label="linear")
        axes.set(xlabel=group, ylabel="times the smallest")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(png, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for what is written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = world.compose(Path(folder))
    catalogue = catalogue_of(200 if arguments.quick else 2000)
    tokenizer = train_tokenizer([f"{place}. {title}" for place, title in enumerate(catalogue.titles)], 2000)
    ranker, quick = teacher_of(len(catalogue)), arguments.quick
    items = [500, 1000] if quick else [1000, 10_000, 100_000, 1_000_000]
    users = [20, 40] if quick else [500, 2000, 8000, 32_000]
    lengths, samples = ([5, 10], [1, 2]) if quick else ([5, 10, 20, 40, 80], [1, 2, 4, 8, 16])
    curves = [
        *over("items", items, lambda size: items_works(config, size)),
        *over("users", users, lambda size: users_works(config, catalogue, size)),
        *over("items of a list", lengths, lambda size: list_works(tokenizer, catalogue, ranker, size)),
        *over("samples of a prompt", samples, lambda size: samples_works(tokenizer, quick, size)),
    ]
    results = {
        "command": "python experiments/performance/scaling.py" + " --quick" * arguments.quick,
        "date": datetime.date.today().isoformat(),
        **provenance.circumstances(),
        "curves": [{**vars(curve), "exponent": curve.exponent} for curve in curves],
        "models": models(config),
        "sweeps": sweeps(),
    }
    files.write_text(arguments.out / "scaling.json", json.dumps(results, indent=1) + "\n")
    page = markdown(results, curves)
    files.write_text(arguments.out / "scaling.md", page)
    draw(curves, arguments.out / "scaling.png")
    print(page)


if __name__ == "__main__":
    main()
