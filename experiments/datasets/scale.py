"""Time and peak memory from published-size files to sequences, beside the plain loop over lines.

    python experiments/datasets/scale.py [FOLDER [NAME ...]]

writes synthetic files of the published formats and sizes, of all DATASETS or of those named, into FOLDER (default: a
temporary one, removed afterwards; about 5 GB for all), measures each way in a fresh process, and rewrites scale.json
and scale.md beside this file. In a FOLDER of your own an interrupted measurement continues where it stopped. Titles are
cut at 200 characters instead of by a tokenizer, so that only this project's reading is timed. Linux only.
"""

import ast
import csv
import gzip
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ctrlrec.config.schema import CategoryKind, DatasetConfig, Split
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.prepare import prepare
from ctrlrec.data.sources import SOURCES
from ctrlrec.runtime import files, provenance

WORDS = [
    f"{a}{b}" for a in ("ba", "co", "di", "fu", "ge", "ha", "lo", "mi", "no", "pe") for b in "abcdefghijklmnopqrst"
]
# Source, settings, and the published numbers of interactions, users and items (metadata rows, reviewed).
DATASETS: dict[str, dict[str, Any]] = {
    name: dict(zip(("source", "rows", "users", "items", "reviewed"), facts, strict=True))
    for name, facts in {
        "amazon_movie": ("amazon", 3_410_019, 297_529, 181_839, 60_175),
        "amazon_movie_ratings": ("amazon", 8_765_568, 3_826_085, 181_839, 181_839),
        "steam": ("steam", 7_793_069, 2_567_538, 32_135, 15_474),
        "movielens_32m": ("movielens_csv", 32_000_204, 200_948, 87_585, 84_432),
    }.items()
}


def main() -> None:
    made_with = provenance.circumstances()  # at the start: measuring takes long enough for a commit in between
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        names = sys.argv[2:] or list(DATASETS)
        rows = [row for name in names for row in measure_all(name, place / name)]
    result = {
        "command": " ".join(["python experiments/datasets/scale.py", *(["FOLDER", *names] if sys.argv[2:] else [])]),
        **made_with,
        "rows": rows,
    }
    here = Path(__file__).parent
    files.write_text(here / "scale.json", json.dumps(result, indent=2) + "\n")
    files.write_text(here / "scale.md", markdown(result))


def measure_all(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Every way for one dataset, its runs kept in ``FOLDER/NAME/runs.json``."""
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        in_fresh_process(generate, name, partial)
        partial.rename(folder)
    kept = folder / "runs.json"
    runs = json.loads(kept.read_text()) if kept.exists() else {}
    for label, (way, count) in WAYS.items():
        while len(runs.setdefault(label, [])) < count:
            runs[label].append(in_fresh_process(way, name, folder))
            files.write_text(kept, json.dumps(runs))
            print(name, label, runs[label][-1], flush=True)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".gz", ".csv"))
    plain = runs["plain loop"][0]
    for label, results in runs.items():
        if label != "cache":
            times = sorted(result["seconds"] for result in results)
            cpu = statistics.median(result["cpu"] for result in results)
            yield {
                "dataset": name,
                "interactions": DATASETS[name]["rows"],
                "megabytes": round(size / 1e6),
                "way": label,
                "runs": len(results),
                "seconds": round(statistics.median(times), 2),
                "seconds_min": round(times[0], 2),
                "seconds_max": round(times[-1], 2),
                "cpu_seconds": round(cpu, 2),
                "peak_gigabytes": round(max(result["peak"] for result in results) / 1e9, 2),
                "left": results[0]["left"],
                "plain_loop_ratio": round(plain["seconds"] / statistics.median(times), 2),
                "plain_loop_cpu_ratio": round(plain["cpu"] / cpu, 2),
            }


def in_fresh_process(way: Callable[[str, Path], Any], name: str, folder: Path) -> dict[str, Any]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(timed, way, name, folder).result()


def timed(way: Callable[[str, Path], Any], name: str, folder: Path) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    left = way(name, folder)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    # Not ru_maxrss: that is inherited from the process that started this one.
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return {"seconds": seconds, "cpu": cpu, "peak": int(peak) * 1024, "left": left}


def settings(name: str, folder: Path) -> DatasetConfig:
    return DatasetConfig(
        name,
        DATASETS[name]["source"],
        str(folder),
        None,
        CategoryKind.auto,
        [],
        25,
        10,
        most_popular=None,
        title_max_tokens=64,
        history_length=10,
        split=Split.last_out,
        validation_share=0.1,
        test_share=0.1,
    )


def columns(name: str, folder: Path) -> int:
    """Both files to columns, nothing else."""
    source = SOURCES[DATASETS[name]["source"]]
    logs, metadata = source.locate(settings(name, folder), folder)
    ledger = Ledger()
    items = pl.concat(source.items(metadata, ledger))
    return len(items) and len(pl.concat(source.interactions(logs, ledger)))


def sequences(name: str, folder: Path) -> dict[str, Any]:
    """The whole way, nothing in the cache."""
    with tempfile.TemporaryDirectory() as cache:
        return counts(name, folder, Path(cache))


def again(name: str, folder: Path) -> dict[str, Any]:
    """The whole way with the parsed logs in the cache."""
    return counts(name, folder, folder / "cache")


def counts(name: str, folder: Path, cache: Path) -> dict[str, Any]:
    def cut(titles: list[str], _: list[str]) -> list[str]:
        return [title[:200] for title in titles]

    report = prepare(settings(name, folder), cache, cut, lambda names: [True] * len(names)).report
    return {key: report["kept"][key] for key in ("users", "items", "interactions")}


def plain_loop(name: str, folder: Path) -> int:
    """What most scripts do: one line, one dictionary, three values kept."""
    interactions, items = [], []
    if name == "movielens_32m" or name == "amazon_movie_ratings":
        with next(file for file in folder.glob("*.csv") if file.name != "movies.csv").open(newline="") as file:
            interactions += [(row[0], row[1], row[3]) for row in csv.reader(file)]
        return len(interactions)
    parse = json.loads if name == "amazon_movie" else ast.literal_eval
    for file in folder.glob("*.gz"):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = parse(line)
                if "reviewerID" in row:
                    interactions.append((row["reviewerID"], row["asin"], row["unixReviewTime"]))
                elif "product_id" in row:
                    interactions.append((row["username"], row["product_id"], row["date"]))
                else:
                    items.append(
                        (row.get("asin") or row.get("id"), row.get("title"), row.get("category") or row.get("tags"))
                    )
    return len(interactions)


# Ways and how often each is run; "cache" only fills the cache for "again".
WAYS: dict[str, tuple[Callable[[str, Path], Any], int]] = {
    "plain loop": (plain_loop, 1),
    "columns": (columns, 3),
    "sequences": (sequences, 3),
    "cache": (again, 1),
    "again": (again, 3),
}


def generate(name: str, folder: Path) -> None:
    """Files of the published format and size; users and items drawn with log-normal popularity."""
    random = np.random.default_rng(0)
    facts = DATASETS[name]
    users = draw(random, facts["users"], facts["rows"], 1.3)
    items = draw(random, facts["reviewed"], facts["rows"], 1.8)
    stamps = random.integers(1_000_000_000, 1_530_000_000, facts["rows"])
    pool = " ".join(random.choice(WORDS, 2_000_000))
    starts = random.integers(0, len(pool) - 4000, facts["rows"])
    lengths = np.minimum(random.lognormal(5, 1.1, facts["rows"]).astype(int), 4000)
    reviews = zip(users.tolist(), items.tolist(), stamps.tolist(), starts.tolist(), lengths.tolist(), strict=True)
    begins = random.integers(0, len(pool) - 60, facts["items"])
    titles = [f"{pool[at : at + 10 + at % 40].strip()} {number}" for number, at in enumerate(begins)]
    if name == "amazon_movie":
        with gzip.open(folder / "Movies_and_TV_5.json.gz", "wt", compresslevel=1) as file:
            file.writelines(amazon_review(*review, pool) for review in reviews)
    elif name == "steam":
        with gzip.open(folder / "steam_reviews.json.gz", "wt", compresslevel=1) as file:
            file.writelines(steam_review(*review, pool) for review in reviews)
        with gzip.open(folder / "steam_games.json.gz", "wt", compresslevel=1) as file:
            file.writelines(
                f"{{u'title': u'{title}', u'tags': [u'{WORDS[n % 200]}', u'{WORDS[n % 37]}'], u'id': u'{n}', "
                f"u'genres': [u'Action'], u'price': 4.99, u'early_access': False}}\n"
                for n, title in enumerate(titles)
            )
    elif name == "amazon_movie_ratings":
        table = pl.DataFrame({"item": items, "user": users, "rating": 5.0, "time": stamps})
        table = table.with_columns(pl.format("B{}", pl.col("item") + 100_000_000), pl.format("A{}QWERTYUI", "user"))
        table.write_csv(folder / "Movies_and_TV.csv", include_header=False)
    else:
        table = pl.DataFrame({"userId": users, "movieId": items, "rating": 4.5, "timestamp": stamps})
        table.write_csv(folder / "ratings.csv")
        films = {
            "movieId": range(facts["items"]),
            "title": titles,
            "genres": [f"Drama|{WORDS[n % 19]}" for n in range(facts["items"])],
        }
        pl.DataFrame(films).write_csv(folder / "movies.csv")
    if name.startswith("amazon"):
        with gzip.open(folder / "meta_Movies_and_TV.json.gz", "wt", compresslevel=1) as file:
            file.writelines(amazon_item(number, title, pool) for number, title in enumerate(titles))


def draw(random: np.random.Generator, kinds: int, count: int, sigma: float) -> np.ndarray:
    weights = np.cumsum(random.lognormal(0, sigma, kinds))
    return np.searchsorted(weights, random.random(count) * weights[-1])


def amazon_review(user: int, item: int, stamp: int, start: int, length: int, pool: str) -> str:
    return (
        f'{{"overall": 5.0, "verified": true, "reviewTime": "06 17, 2018", "reviewerID": "A{user}QWERTYUI", "asin": '
        f'"B{item + 100_000_000}", "style": {{"Format:": " DVD"}}, "reviewerName": "{pool[start : start + 14]}", '
        f'"reviewText": "{pool[start : start + length]}\\n\\"yes\\"", "summary": "{pool[start : start + 20]}", '
        f'"unixReviewTime": {stamp}}}\n'
    )


def amazon_item(number: int, title: str, pool: str) -> str:
    at = number * 97 % (len(pool) - 4000)
    path = ["Movies & TV", WORDS[number % 30], WORDS[number % 150]]
    related = [f"B{100_000_000 + (number + step) % 180_000}" for step in range(20)]
    row = {"category": path, "tech1": "", "description": [pool[at : at + number % 1200]], "title": title}
    row |= {"also_buy": related, "brand": pool[at : at + 12], "rank": "1,000 in Movies & TV ("}
    return json.dumps(row | {"asin": f"B{number + 100_000_000}"}) + "\n"


def steam_review(user: int, item: int, stamp: int, start: int, length: int, pool: str) -> str:
    day = f"20{10 + stamp % 8}-{1 + stamp % 12:02}-{1 + stamp % 28:02}"
    quote, text = ('"', "it's ") if stamp % 5 == 0 else ("'", "it\\'s " if stamp % 3 == 0 else "so ")
    words = f"u{quote}{text}{pool[start : start + length]}{quote}"
    return (
        f"{{u'username': u'player {user}', u'hours': {stamp % 1000 / 10}, u'products': {stamp % 300}, "
        f"u'product_id': u'{item}', u'page_order': {stamp % 10}, u'date': u'{day}', u'text': {words}, "
        f"u'early_access': False, u'page': {stamp % 900}, u'user_id': u'{76561190000000000 + user}'}}\n"
    )


def markdown(result: dict[str, Any]) -> str:
    lines = [
        "# Reading at the published sizes",
        "",
        f"`{result['command']}`, commit {result['git_commit']}, {result['hardware']['cores']} CPU cores "
        f"({result['hardware']['machine']}), "
        + ", ".join(f"{name} {result['packages'][name]}" for name in ("python", "polars", "numpy"))
        + ". Synthetic files; n is the number of interactions; median of the runs, each in a fresh process.",
        "",
        "columns: both files to columns. plain loop: `json.loads`, `ast.literal_eval` or `csv.reader` line by line, "
        "three values kept. sequences: from the files to catalogue and sequences, nothing cached. again: the same with "
        "parsed logs in the cache.",
        "",
        "Wall seconds suffer from whatever else the machine does; processor seconds, of all threads, hardly.",
        "",
        "| dataset | n | files (MB) | way | runs | seconds (min to max) | processor seconds | peak memory (GB) | "
        "plain loop / this, wall and processor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        ratio = f"{row['plain_loop_ratio']}, {row['plain_loop_cpu_ratio']}" if row["way"] != "plain loop" else ""
        lines.append(
            f"| {row['dataset']} | {row['interactions']:,} | {row['megabytes']:,} | {row['way']} | {row['runs']} | "
            f"{row['seconds']} ({row['seconds_min']} to {row['seconds_max']}) | {row['cpu_seconds']} | "
            f"{row['peak_gigabytes']} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
