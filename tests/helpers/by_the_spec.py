"""Rewards, metrics and labels computed again, from the written method and the JSON Lines files alone.

Nothing of the package is imported here: agreement means that the files say what the method says.
"""

import math
from collections import defaultdict
from functools import cache

import numpy as np
from scipy.optimize import LinearConstraint, milp

CONTROLLED = {
    "category_positive": "TCP@10",
    "category_negative": "TCP@10",
    "at_most_20": "CPA",
    "about_30": "CPA",
    "at_least_30": "CPA",
}


class Catalogue:
    """Titles and who is in which category."""

    def __init__(self, rows: list[dict]):
        self.titles = {row["title"] for row in rows}
        self.categories = {row["title"]: set(row["categories"]) for row in rows}
        self.target_category = {row["title"]: row["target_category"] for row in rows}
        self.interactions = {row["title"]: row.get("interactions", 0) for row in rows}

    def inside(self, title: str | None, category: str | None) -> bool:
        return title is not None and category is not None and category in self.categories.get(title, ())

    def size(self, category: str | None) -> int:
        return sum(category in own for own in self.categories.values())


# ---------------------------------------------------------------------------------------------------------- section 5


def reasons(row: dict, position: int, catalogue: Catalogue) -> set[str]:
    """Every reason that makes the item at ``position`` illegal."""
    title, found = row["titles"][position], set()
    if title not in catalogue.titles or (row["candidates"] is not None and title not in row["candidates"]):
        found.add("nonexistent")
    if title in row["titles"][:position]:
        found.add("repeat")
    if title in row["history"]:
        found.add("history")
    if position >= row["item_count"]:
        found.add("excess")
    return found


def rewards(row: dict, catalogue: Catalogue, reading: str = "paper") -> tuple[list[float], float]:
    """Item rewards and the list reward (before x 10) of a row of ``rollouts.jsonl``."""
    task, k, percent, category = row["task"], row["item_count"], row["proportion"], row["category"]
    legal = [not reasons(row, position, catalogue) for position in range(len(row["titles"]))]
    score = []
    for title, fine, rank in zip(row["titles"], legal, row["teacher_rank"], strict=True):
        score.append(-1.0 if not fine else 1.0 if title == row["target"] else 1 / math.log2(rank + 3))
    control, count_in, count_out = [], 0, 0
    for title, fine, own in zip(row["titles"], legal, score, strict=True):
        if not fine:
            control.append(-1.0)
            continue
        within = catalogue.inside(title, category)
        count_in, count_out = count_in + within, count_out + (not within)
        control.append(algorithm_1(task, own, within, count_in, count_out, k, percent))
    starred = [s / math.log2(i + 2) if fine else -1.0 for i, (s, fine) in enumerate(zip(score, legal, strict=True))]
    items = [0.5 * s + 0.5 * c for s, c in zip(score, control, strict=True)]
    if reading == "released":
        if task == "sequential":
            items = score
        best = sum(1 / math.log2(j + 2) ** 2 for j in range(k))
        shown = [title if fine else None for title, fine in zip(row["titles"], legal, strict=True)]
        size = catalogue.size(category)
        whole = released_list_control(task, shown, row["target"], count_in, count_out, k, percent, size)
        return items, 0.5 * sum(starred) / best + 0.5 * whole
    if task == "sequential":
        whole = sum(starred) / (math.log2(k + 2) if reading == "paper_literal" else 1)
    else:
        distance = {
            "category_positive": lambda: 100 * (k - count_in),
            "category_negative": lambda: 100 * (k - count_out),
            "proportion_at_most": lambda: max(100 * count_in - k * percent, 0),
            "proportion_at_least": lambda: max(k * percent - 100 * count_in, 0),
            "proportion_about": lambda: abs(100 * count_in - k * percent),
        }[task]()
        whole = 1 / math.log2(distance / 100 + 2)
    return items, 0.5 * sum(starred) + 0.5 * whole


def algorithm_1(
    task: str, score: float, inside: bool, count_in: int, count_out: int, k: int, percent: int | None
) -> float:
    """Line by line; the first test of the at-least branch is count_in > k*m."""
    if task == "sequential":
        return score
    if task == "category_positive":
        return 1.0 if inside else 0.0
    if task == "category_negative":
        return 0.0 if inside else 1.0
    hundred_in, hundred_out, km, rest = 100 * count_in, 100 * count_out, k * percent, 100 * k - k * percent
    if task == "proportion_at_most":
        if hundred_out > rest:
            return 0.5
        if not inside:
            return 1.0
        return 0.5 if hundred_in < km else 0.0
    if task == "proportion_at_least":
        if hundred_in > km:
            return 0.5
        if inside:
            return 1.0
        return 0.5 if hundred_out < rest else 0.0
    assert task == "proportion_about"
    if inside:
        return 1.0 if hundred_in <= km else 0.0
    if hundred_in >= km:
        return 1.0
    return 0.5 if hundred_out <= rest else 0.0


def released_list_control(
    task: str,
    shown: list[str | None],
    target: str,
    count_in: int,
    count_out: int,
    k: int,
    percent: int | None,
    size: int,
) -> float:
    if task == "sequential":
        return 1 / math.log2(shown.index(target) + 2) if target in shown else 0.0
    if task == "category_positive":
        return 1 / (min(k, size) - count_in + 1)
    if task == "category_negative":
        return 1 / (k - count_out + 1)
    difference = 100 * count_in - k * percent
    holds = {
        "proportion_at_most": difference <= 0,
        "proportion_at_least": difference >= 0,
        "proportion_about": difference == 0,
    }[task]
    return 1.0 if holds else 1 / (abs(difference) / 100 + 1)


# ---------------------------------------------------------------------------------------------------------- section 7


@cache
def edits(a: str, b: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def nearest_titles(written: str, catalogue: Catalogue, limit: int) -> set[str]:
    """The catalogue title itself, else all closest ones within ``limit`` edits and a quarter of their characters."""
    if not written:
        return set()
    if written in catalogue.titles:
        return {written}
    close = {title: edits(written, title) for title in catalogue.titles if abs(len(title) - len(written)) <= limit}
    near = {title: found for title, found in close.items() if found <= limit and 4 * found <= len(title)}
    return {title for title, found in near.items() if found == min(near.values())}


def metrics(predictions: list[dict], catalogue: Catalogue) -> dict[str, dict[str, list[float]]]:
    """Values per user of every metric, by setting."""
    sequential = {row["user"]: row for row in predictions if row["setting"] == "sequential"}
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in predictions:
        found = values[row["setting"]]
        k, items, titles = row["item_count"], row["items"][: row["item_count"]], row["titles"][: row["item_count"]]
        depths = [("@K", k)] if row["setting"] == "formatting" else [("@5", 5), ("@10", 10)]
        for name, depth in depths:
            place = items[:depth].index(row["target"]) if row["target"] in items[:depth] else None
            found[f"HR{name}"].append(float(place is not None))
            found[f"NDCG{name}"].append(0.0 if place is None else 1 / math.log2(place + 2))
        answers = [("", row)]
        if row["user"] in sequential:
            answers.append(("_free", sequential[row["user"]]))
        for suffix, answer in answers if row["setting"] in CONTROLLED else ():
            scored = answer["items"][:k]
            count = sum(catalogue.inside(item, row["category"]) for item in scored)
            missing = max(0, k - len(answer["titles"]))
            if CONTROLLED[row["setting"]] == "TCP@10":  # k is 10
                unwanted = row["setting"] == "category_negative"
                found[f"TCP@10{suffix}"].append((count + missing * unwanted) / 10)
                if unwanted and not suffix:
                    found["TCP@10_literal"].append(count / 10)
                continue
            demand, invented = k * row["proportion"], scored.count(None)
            holds = {
                "at_most_20": 100 * (count + invented + missing) <= demand,
                "at_least_30": 100 * count >= demand,
                "about_30": abs(100 * count - demand) <= 100,
            }[row["setting"]]
            found[f"CPA{suffix}"].append(float(holds))
            if not suffix:
                literal = 100 * count <= demand if row["setting"] == "at_most_20" else holds
                found["CPA_literal"].append(float(literal))
        if row.get("constraints") and row["setting"].startswith("blend"):
            for name, value in blend_metrics(row, sequential.get(row["user"]), catalogue).items():
                found[name].append(value)
        named = [
            ("title", title) if item is None else ("item", item) for title, item in zip(titles, items, strict=True)
        ]
        found["CorrectCount"].append(float(len(row["titles"]) == k))
        repeated = sum(name in named[:i] for i, name in enumerate(named))
        found["RepeatItem@K"].append(repeated / k)
        if named:
            found["RepeatWritten@K"].append(repeated / len(named))
        found["NonExist@K"].append(items.count(None) / k)
        found["InHistory@K"].append(sum(item in row["history"] for item in items if item is not None) / k)
    for setting, found in values.items():
        beyond(found, [row for row in predictions if row["setting"] == setting], catalogue)
    return values


TOGETHER = ("ItemCoverage@K", "GiniIndex@K")  # of all lists of a setting: the same value for each user


def beyond(found: dict[str, list[float]], rows: list[dict], catalogue: Catalogue) -> None:
    """Add what docs/metrics.md calls beyond accuracy to the values of a setting."""
    lists = [list({item: None for item in row["items"][: row["item_count"]] if item is not None}) for row in rows]
    counts = {title: sum(title in items for items in lists) for title in catalogue.titles}
    found["ItemCoverage@K"] = [sum(count > 0 for count in counts.values()) / len(counts)] * len(rows)
    if total := sum(counts.values()):
        pairs = sum(abs(one - other) for one in counts.values() for other in counts.values())
        found["GiniIndex@K"] = [pairs / (2 * len(counts) * total)] * len(rows)
    everything = sum(catalogue.interactions.values())
    for row, items in zip(rows, lists, strict=True):
        if items:
            taken = [catalogue.interactions[item] for item in items]
            found["AveragePopularity@K"].append(sum(taken) / len(items))
            found["Novelty@K"].append(-sum(math.log2(max(1, count) / everything) for count in taken) / len(items))
            found["Calibration@K"].append(divergence(row["history"], items, catalogue))
        sets = [catalogue.categories[item] for item in items]
        overlaps = [len(a & b) / len(a | b) for place, a in enumerate(sets) for b in sets[:place]]
        if overlaps:
            found["ILD@K"].append(1 - sum(overlaps) / len(overlaps))


def divergence(history: list[str], items: list[str], catalogue: Catalogue) -> float:
    """Jensen-Shannon divergence of the categories of two lists, as entropies in bits."""

    def shares(titles: list[str]) -> dict[str, float]:
        names = {name for title in titles for name in catalogue.categories[title]}
        of = {
            name: sum((name in catalogue.categories[title]) / len(catalogue.categories[title]) for title in titles)
            for name in names
        }
        return {name: value / len(titles) for name, value in of.items()}

    def entropy(of: dict[str, float]) -> float:
        return -sum(value * math.log2(value) for value in of.values() if value)

    p, q = shares(history), shares(items)
    middle = {name: (p.get(name, 0) + q.get(name, 0)) / 2 for name in p.keys() | q.keys()}
    return entropy(middle) - (entropy(p) + entropy(q)) / 2


# ---------------------------------------------------------------------------------------------------------- section 3


def obeys(row: dict, catalogue: Catalogue) -> bool:
    """Whether the labels of a row of ``instructions.jsonl`` do what its instruction asks."""
    count = sum(catalogue.inside(title, row["category"]) for title in row["labels"])
    k = len(row["labels"])
    match row["task"]:
        case "sequential":
            return True
        case "category_positive":
            return count == k
        case "category_negative":
            return count == 0
        case "search":
            return count in (0, k)
        case "proportion_at_most":
            return 100 * count <= k * row["proportion"]
        case "proportion_at_least":
            return 100 * count >= k * row["proportion"]
        case "proportion_about":
            return abs(100 * count - k * row["proportion"]) <= 100
    raise ValueError(row["task"])


def is_window(history: list[str], target: str, items: list[str], longest: int = 10) -> bool:
    """Whether history and target stand next to each other in ``items``."""
    window = [*history, target]
    return 1 <= len(history) <= longest and any(
        items[start : start + len(window)] == window for start in range(len(items) - len(window) + 1)
    )


# --------------------------------------------------------------------------------------------------------- section 12

TASKS = {
    "positive": "category_positive",
    "negative": "category_negative",
    "at_most": "proportion_at_most",
    "at_least": "proportion_at_least",
    "about": "proportion_about",
}


def allowed(kind: str, k: int, percent: int | None) -> list[int]:
    """Numbers of items in the category that obey one constraint."""
    return {
        "positive": lambda: [k],
        "negative": lambda: [0],
        "at_most": lambda: [count for count in range(k + 1) if 100 * count <= k * percent],
        "at_least": lambda: [count for count in range(k + 1) if 100 * count >= k * percent],
        "about": lambda: [count for count in range(k + 1) if abs(100 * count - k * percent) <= 100],
    }[kind]()


def meets_all(row: dict, titles: list[str], catalogue: Catalogue) -> bool:
    return all(
        sum(catalogue.inside(title, each["category"]) for title in titles)
        in allowed(each["kind"], row["item_count"], each["proportion"])
        for each in row["constraints"]
    )


def best_sum(row: dict, scores: dict[str, float], catalogue: Catalogue, first: str | None) -> float:
    """The largest sum of scores of a list that meets all constraints, its first item's left out; one variable an item.

    Args:
        row: a line with item_count and constraints.
        scores: the teacher's, of every item outside the history.
        catalogue: categories.
        first: the item that leads the list; None if any may.
    """
    titles, k = list(scores), row["item_count"]
    values = np.array([scores[title] if title != first else 0.0 for title in titles])
    rows, low, high = [np.ones(len(titles))], [k], [k]
    if first is not None:
        rows.append(np.array([float(title == first) for title in titles]))
        low.append(1)
        high.append(1)
    for each in row["constraints"]:
        counts = allowed(each["kind"], k, each["proportion"])
        rows.append(np.array([float(catalogue.inside(title, each["category"])) for title in titles]))
        low.append(min(counts))
        high.append(max(counts))
    found = milp(-values, constraints=LinearConstraint(np.stack(rows), low, high), integrality=np.ones(len(titles)),
                 bounds=(0, 1), options={"mip_rel_gap": 0})  # fmt: skip
    assert found.status == 0, "asked although no list meets all"
    return -found.fun


def blend_rewards(row: dict, catalogue: Catalogue, reading: str = "paper") -> tuple[list[float], float]:
    """Means over the constraints of what each would earn alone: the preference is the same in all of them."""
    alone = [
        rewards(row | {"task": TASKS[each["kind"]], "category": each["category"], "proportion": each["proportion"]},
                catalogue, reading)
        for each in row["constraints"]
    ]  # fmt: skip
    items = [sum(column) / len(alone) for column in zip(*(found for found, _ in alone), strict=True)]
    return items, sum(whole for _, whole in alone) / len(alone)


def starred(row: dict, titles: list[str | None], ranks: list[int | None]) -> float:
    """Sum of Scores* of the first k items."""
    total, seen = 0.0, set()
    for place, (title, rank) in enumerate(zip(titles, ranks, strict=True)):
        if place == row["item_count"]:
            break
        if title is None or title in seen or title in row["history"]:
            total -= 1
        else:
            total += (1.0 if title == row["target"] else 1 / math.log2(rank + 3)) / math.log2(place + 2)
        seen.add(title)
    return total


def blend_metrics(row: dict, free: dict | None, catalogue: Catalogue) -> dict[str, float]:
    """Satisfied, all_satisfied, violation, regret and the best list's HR of a line of ``predictions.jsonl``."""
    k = row["item_count"]
    found = {
        "HR@10_best": float(row["target"] in row["best"][:10]),
        "regret": 1 - starred(row, row["items"], row["teacher_rank"]) / starred(row, row["best"], row["best_rank"]),
    }
    for suffix, answer in (("", row), *([("_free", free)] if free else [])):
        off = []
        for each in row["constraints"]:
            listed = answer["items"][:k]
            count = sum(catalogue.inside(title, each["category"]) for title in listed)
            if each["kind"] in ("at_most", "negative"):
                count += k - len(listed)
            if each["kind"] == "at_most":
                count += listed.count(None)
            off.append(min(abs(count - fine) for fine in allowed(each["kind"], k, each["proportion"])))
        found[f"satisfied{suffix}"] = sum(items == 0 for items in off) / len(off)
        found[f"all_satisfied{suffix}"] = float(sum(off) == 0)
        found[f"violation{suffix}"] = float(sum(off))
    return found
