"""Does a reward pay for breaking the control? ``margin.py [OVERRIDE ...]`` writes ``margin.md`` and ``margin.json``.

For each test question of I1+ and I1- it takes the teacher's best list that obeys, lets the last r items repeat the
first ones, as answers after SL do, and exchanges the last new item for the teacher's best one on the wrong side of the
category. The gain is that of the whole reward: item rewards and ``rl.list_weight`` times the list reward.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctrlrec.config.compose import compose
from ctrlrec.controls.instruction import Instruction
from ctrlrec.evaluation.intervals import summarise
from ctrlrec.evaluation.settings import questions
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.pipeline import run as stages
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.reporting.render import Cell, Grid, markdown
from ctrlrec.rewards.judging import Judgement, judge
from ctrlrec.rewards.schemes import SCHEMES
from ctrlrec.runtime import files, provenance

HERE = Path(__file__).parent
REPEATS = range(5)
SIDES = {"category_positive": ("I1+", True), "category_negative": ("I1-", False)}


def lists(
    builder: InstructionBuilder, asked: Sequence[Instruction], wanted: bool, repeats: int
) -> tuple[list[Instruction], list[list[str]], list[list[str]]]:
    """Questions with their obeying list and the same with its last new item exchanged, as titles."""
    catalogue, scores = builder.catalogue, builder.ranker.scores([each.history for each in asked]).cpu().numpy()
    kept, obeying, breaking = [], [], []
    for instruction, row in zip(asked, scores, strict=True):
        order = np.argsort(-row, kind="stable")
        order = order[(row[order] > -np.inf) & (order != instruction.target)]
        inside = catalogue.membership[catalogue.category_index[str(instruction.category)]][order]
        right, wrong = order[inside == wanted], order[inside != wanted]
        count = instruction.item_count - repeats
        if len(right) >= count and len(wrong):
            new = [catalogue.titles[item] for item in right[:count]]
            kept.append(instruction)
            obeying.append([*new, *new[:repeats]])
            breaking.append([*new[:-1], catalogue.titles[wrong[0]], *new[:repeats]])
    return kept, obeying, breaking


def judged(
    builder: InstructionBuilder, asked: Sequence[Instruction], wanted: bool, repeats: int
) -> tuple[list[Judgement], list[Judgement]]:
    """The judgements of :func:`lists`, which every reading of the reward scores."""
    kept, obeying, breaking = lists(builder, asked, wanted, repeats)
    catalogue, ranker = builder.catalogue, builder.ranker
    return judge(kept, obeying, catalogue, ranker), judge(kept, breaking, catalogue, ranker)


def gains(answers: tuple[list[Judgement], list[Judgement]], reading: str, weight: float) -> np.ndarray:
    """What each question's exchange changes in the reward, float (n,)."""
    scheme = SCHEMES[reading]
    obeying, breaking = (
        np.array([sum(scheme.item(found)) + weight * scheme.list(found) for found in judgements])
        for judgements in answers
    )
    return breaking - obeying


def main() -> None:
    overrides = sys.argv[1:]
    config = compose("stage=instructions", "model=llama_mini", "budget=small", "logger=csv", *overrides)
    inputs = {name: result.directory for name, result in stages.run(config).items()}
    builder, _ = load_builder(config, inputs)
    evaluation = config.evaluation
    found, rows = [], []
    for setting, (name, wanted) in SIDES.items():
        asked = [example.instruction for example in questions(setting, builder, evaluation, None)]
        answers = [judged(builder, asked, wanted, repeats) for repeats in REPEATS]
        for reading in SCHEMES:
            cells = []
            for repeats in REPEATS:
                gain = gains(answers[repeats], reading, config.rl.list_weight)
                columns = {"gain": gain, "share": (gain > 0).astype(float)}
                numbers = summarise(columns, evaluation.bootstrap_resamples, evaluation.confidence, config.seed)
                found.append({"setting": setting, "reward": reading, "repeats": repeats, **numbers})
                mean, share = numbers["gain"], f"{100 * numbers['share']['value']:.0f}%"
                cells.append(Cell(f"{mean['value']:+.2f}", share, f"[{mean['low']:+.2f}, {mean['high']:+.2f}]"))
            rows.append(((name, reading), tuple(cells)))
    grid = Grid(
        caption="What a list of ten earns for breaking the control with its last new item, by how many of its items "
        f"are repeats: mean over {min(each['gain']['n'] for each in found)} questions or more, (share of them that "
        "earn), [interval over users].",
        labels=("Instruction", "reward="),
        groups=(),
        heads=tuple(f"{repeats} repeats" for repeats in REPEATS),
        rows=tuple(rows),
    )
    made = {
        "command": shlex.join(["python", "experiments/reward_margin/margin.py", *overrides]),
        **provenance.circumstances(),
        "seed": config.seed,
        "inputs": {name: path.name for name, path in inputs.items()},
        "numbers": found,
    }
    files.write_text(HERE / "margin.md", markdown(grid))
    files.write_text(HERE / "margin.json", json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
