"""A run of the real command line small enough for tests: its data, its settings, its process."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

_ADJECTIVES = ("Red", "Old", "Lost", "Wild", "Deep", "Last", "Cold", "Big")
_NOUNS = ("Fox", "Sea", "Men", "War", "Sun")
_GENRES = ("Action", "Comedy", "Drama", "Film-Noir", "War, Old", "Été")
ROOT = Path(__file__).resolve().parents[2]


def write_records(folder: Path, users: int = 60, seed: int = 5) -> None:
    """40 items of 1 to 3 genres; users walk a circle of items with jumps, so that a teacher has something to learn."""
    rng = random.Random(seed)
    names = [
        f"{adjective} {noun} ({1950 + 7 * place})" for adjective in _ADJECTIVES for place, noun in enumerate(_NOUNS)
    ]
    names[3], names[11], names[20] = '7 Men, a War: "Sun"', "Café d'Été", "3. Fox"
    folder.mkdir(parents=True)
    with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
        for item, name in enumerate(names):
            genres = rng.sample(_GENRES, rng.randint(1, 3))
            file.write(json.dumps({"item": f"i{item}", "title": name, "categories": genres}, ensure_ascii=False) + "\n")
    with (folder / "interactions.csv").open("w", encoding="utf-8") as file:
        file.write("user,item,timestamp\n")
        rows = []
        for user in range(users):
            place, seen = rng.randrange(40), []
            for _ in range(rng.randint(7, 20)):
                while place in seen:
                    place = (place + rng.choice((1, 1, 1, 9))) % 40
                seen.append(place)
            rows += [(1000 * step + rng.randrange(1000), f"u{user}", f"i{item}") for step, item in enumerate(seen)]
        rng.shuffle(rows)
        file.writelines(f"{user},{item},{when}\n" for when, user, item in rows)


def settings(folder: Path, output: Path, **changed: object) -> list[str]:
    """Overrides of the tiny run; ``changed`` replaces some, with ``__`` for the dot."""
    values: dict[str, object] = {
        "dataset": "records",
        "dataset.path": folder,
        "output": output,
        "cache": folder / "cache",
        "logger": "csv",
        "trainer.accelerator": "cpu",
        "trainer.threads": 1,
        "trainer.progress": False,
        "teacher.embedding": 16,
        "teacher.max_epochs": 4,
        "model.hidden_size": 32,
        "model.layers": 1,
        "model.heads": 2,
        "model.vocabulary": 500,
        "model.max_length": 900,
        "model.max_response_length": 160,
        "instructions.validation_size": 8,
        "instructions.candidate_share": 0.3,
        "sl.max_steps": 6,
        "sl.batch_size": 16,
        "sl.validations": 3,
        "sl.learning_rate": 0.003,
        "rl.iterations": 4,
        "rl.prompts": 3,
        "evaluation.users": 8,
        "evaluation.bootstrap_resamples": 100,
        "generation.max_new_tokens": 60,
    }
    values |= {key.replace("__", "."): value for key, value in changed.items()}
    return [f"{key}={value}" for key, value in values.items()]


def environment() -> dict[str, str]:
    """Of a child process: one thread, no network, no colours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "CTRLREC_"))}
    return inherited | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }


def start(
    arguments: list[str], log: Path, program: tuple[str, ...] = ("-m", "ctrlrec"), **variables: str
) -> subprocess.Popen:
    """Start ``python -m ctrlrec``, or what stands in for it; what it prints goes to ``log``."""
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment() | variables,
            cwd=log.parent,
            # Where the tests run in a shell's background, Ctrl-C is ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def run(arguments: list[str], log: Path, **variables: str) -> str:
    """Run ``python -m ctrlrec`` to its end and return what it printed; ``variables`` of its environment beside ours."""
    process = start(arguments, log, **variables)
    assert process.wait(timeout=500) == 0, log.read_text()
    return log.read_text()


def read_lines(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def only(folder: Path, pattern: str = "*-????????????") -> Path:
    """The one finished result in a stage's folder."""
    (found,) = folder.glob(pattern)
    return found


def happened(printed: str) -> list[tuple[str, str]]:
    """(stage, what) in order: run, resume, reuse or wait."""
    return re.findall(r"^[\d:]{8}  (\w+) +(run|resume|reuse|wait) ", printed, re.MULTILINE)


def answer_of(rng: random.Random, labels: list[str], history: list[str], titles: list[str]) -> str:
    """A good answer, spoilt here and there in every way the method knows."""
    lines = list(labels)
    for place in range(len(lines)):
        spoil = rng.random()
        if spoil < 0.1:
            lines[place] = rng.choice(history or titles)
        elif spoil < 0.2:
            lines[place] = rng.choice(lines[: place + 1])
        elif spoil < 0.3:
            lines[place] = lines[place][:-1] + rng.choice(("", "x", "!! two"))
        elif spoil < 0.5:
            lines[place] = rng.choice(titles)
    cut = rng.random()
    lines = lines[: rng.randint(1, len(lines))] if cut < 0.2 else lines + rng.sample(titles, 3) if cut < 0.4 else lines
    if rng.random() < 0.5:
        rng.shuffle(lines)
    quote = rng.choice(("", "", "'", '"'))
    return "\n".join(f"{place}. {quote}{title}{quote}" for place, title in enumerate(lines, 1))
