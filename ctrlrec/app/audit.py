"""Look through what a row was trained on for interactions that the split holds out: ``ctrlrec audit RUN``.

It reads the files of every stage that the row was made from, whatever their checksums. The exit status is 1 if there is
a leak.

| artefact | is compared with |
| --- | --- |
| training items of ``sequences.jsonl`` | the source, prepared again, if it is still there |
| counts, popularity bands and items of ``catalogue.jsonl``, of which tries are made | the training items |
| windows of the teacher, drawn again from its seed | the training items |
| ``instructions.jsonl``, ``rollouts.jsonl``: histories and targets | the training items |
| ``instructions.jsonl``: labels that a user took later | what the teacher, asked again, recommends |
| ``validation.jsonl``: histories and targets | the training items, the validation items |
| what each stage was made from | what lies beside it |
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ctrlrec.app import leaks
from ctrlrec.app.findings import Check, show
from ctrlrec.app.leaks import Held, Leak
from ctrlrec.app.loading import HERE, result_of
from ctrlrec.config.compose import recorded
from ctrlrec.config.schema import Config
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.errors import CtrlRecError
from ctrlrec.pipeline.data import prepared_again
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.pipeline.plan import STAGES, outdated
from ctrlrec.runtime import results
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.printing import command
from ctrlrec.runtime.user import settle


def audit(run: Path) -> Iterator[Check]:
    """Look through every training artefact of a run.

    Args:
        run: folder of a finished result of any stage, or an output folder with one row.

    Raises:
        CtrlRecError: if there is no such result, or its data stage is missing.
    """
    folders = lineage(result_of(run))
    data = folders.get("data")
    if data is None or not data.is_dir():
        raise CtrlRecError(f"{run}: the data stage that it was made from is missing; keep the output folder together")
    config = recorded(results.read(data)["config"], **HERE)
    settle(config.cache)
    catalogue = Catalogue.load(data / "catalogue.jsonl")
    sequences = Sequences.load(data / "sequences.jsonl", catalogue, config.dataset.history_length)
    held = Held(catalogue, sequences)
    yield _made_from(folders)
    yield _source(config, data, catalogue, sequences)
    path = data / "catalogue.jsonl"
    found = leaks.of_catalogue(path, catalogue, sequences, config)
    yield Check("catalogue, popularity, trie", f"{len(catalogue)} items", found)
    if "teacher" in folders:
        yield _windows(folders["teacher"], sequences, catalogue.titles)
    if "instructions" in folders:
        yield from _instructions(folders, held)
    if "rl" in folders:
        yield _questions("rollouts", folders["rl"] / "rollouts.jsonl", held)


def lineage(directory: Path) -> dict[str, Path]:
    """Return the folder of a result and of all that it was made from, by stage, in the order of the stages."""
    folders: dict[str, Path] = {}

    def add(stage: str, folder: Path) -> None:
        folders[stage] = folder
        for name, below in results.made_from(folder, results.read(folder).get("upstream", {})).items():
            if name not in folders:
                add(name, below)

    directory = directory.absolute()
    add(directory.parent.name, directory)
    return {stage: folders[stage] for stage in STAGES if stage in folders}


def _made_from(folders: dict[str, Path]) -> Check:
    """Compare what each stage says that it was made from with what lies beside it."""
    found = []
    for folder in folders.values():
        for name, source in results.read(folder).get("upstream", {}).items():
            below = folders[name]
            if below.is_dir() and results.read(below).get("made") != source.get("made"):
                why = f"was made from another {name} than {below}"
                found.append(Leak(folder / results.RECORD, None, None, None, why))
    return Check("lineage", ", ".join(folders), found)


def _source(config: Config, data: Path, catalogue: Catalogue, sequences: Sequences) -> Check:
    """Compare sequences with their source."""
    name, path = "sequences", data / "sequences.jsonl"
    try:
        again = prepared_again(config, data)
    except CtrlRecError as error:
        return Check(name, f"the source cannot be read: {error}", done=False)
    return Check(name, leaks.tested(sequences), leaks.of_source(path, catalogue, sequences, again))


def _windows(folder: Path, sequences: Sequences, titles: tuple[str, ...]) -> Check:
    """Draw the teacher's windows again."""
    name, record = "teacher", results.read(folder)
    trained = results.read_json(folder / "teacher.json", None)
    if not record or trained is None:
        return Check(name, f"{folder}: missing", done=False)
    epochs, why = trained["epochs"], outdated(folder)
    found = leaks.of_windows(folder / "teacher.safetensors", sequences, titles, record["seed"], epochs)
    drawn = f"windows of {min(epochs, leaks.EPOCHS)} of {epochs} epochs, drawn again"
    return Check(name, f"{drawn}, by today's code: {why}" if why else drawn, found)


def _instructions(folders: dict[str, Path], held: Held) -> Iterator[Check]:
    """Look through instructions, their labels and validation questions."""
    folder = folders["instructions"]
    path = folder / "instructions.jsonl"
    yield _questions("instructions", path, held)
    yield _questions("validation", folder / "validation.jsonl", held, validation=True)
    if not path.exists():
        return
    config = recorded(results.read(folder)["config"], **HERE)
    if not folders["teacher"].is_dir():
        yield Check("labels", f"{folders['teacher']}: missing", done=False)
        return
    builder, _ = load_builder(config, folders)
    yield Check("labels", "of one epoch; the others are drawn the same way", leaks.of_labels(path, held, builder))


def _questions(name: str, path: Path, held: Held, validation: bool = False) -> Check:
    """Look through the histories and targets of a file."""
    if not path.exists():
        return Check(name, f"{path}: missing", done=False)
    with path.open(encoding="utf-8") as file:
        lines = sum(1 for _ in file)
    return Check(name, f"{lines} lines", leaks.of_questions(path, held, validation))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Find interactions that the split holds out in what a row learnt from.")
    made.add_argument("run", type=Path, help="folder of a finished result, such as runs/evaluate/NAME")
    return made


@command
def main() -> int:
    """Run the command line; the exit status is 0, or 1 after an error or if there is a leak."""
    arguments = parser().parse_args()
    try:
        with explained(arguments.run):
            leaking = show(audit(arguments.run), "LEAK")
    except json.JSONDecodeError as error:
        raise CtrlRecError(str(error)) from None
    print(f"{leaking} leaks" if leaking else "no leak")
    return 1 if leaking else 0


if __name__ == "__main__":
    sys.exit(main())
