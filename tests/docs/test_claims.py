"""The page of the paper's claims says what the kept rows say."""

import json
import sys
from pathlib import Path

import pytest

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting.render import markdown

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "experiments/claims"))

from claims import CLAIMS, Test, checked, effect, verdict  # noqa: E402

Test.__test__ = False  # type: ignore[attr-defined]
PLACE = ("sequential", "RepeatItem@K")


def folder(path: Path, dataset: str, *pairs: tuple[str, str, str, str, float, float]) -> Path:
    """Kept rows of two seeds; a pair is (better, worse, setting, metric, difference, half of its interval)."""
    rows, compared = [], []
    for seed in (0, 1):
        rows += [
            {"row": "sasrec", "seed": seed, "dataset": dataset, "settings": {"sequential": {"HR@10": {"value": 0.2}}}}
        ]
        for better, worse, setting, metric, value, half in pairs:
            cell = {"value": value + 0.001 * seed, "low": value - half, "high": value + half, "n": 100}
            compared.append({"better": better, "worse": worse, "seed": seed, "confidence": 0.95,
                             "settings": {setting: {metric: cell}}})  # fmt: skip
    path.mkdir()
    (path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (path / "comparisons.json").write_text(json.dumps(compared), encoding="utf-8")
    return path


def test_the_page_is_that_of_the_kept_rows() -> None:
    grid, records = checked(sorted((ROOT / "experiments").glob("*-llama_mini-small")))
    assert (ROOT / "experiments/claims/claims.md").read_text(encoding="utf-8") == markdown(grid)
    assert json.loads((ROOT / "experiments/claims/claims.json").read_text(encoding="utf-8")) == records


def test_fewer_repeats_speak_for_a_claim_and_more_against_it(tmp_path: Path) -> None:
    fewer = folder(tmp_path / "a", "films", ("full", "v2", *PLACE, -0.3, 0.01))
    more = folder(tmp_path / "b", "games", ("full", "v2", *PLACE, 0.3, 0.01))
    _, records = checked([fewer, more])
    (claim,) = [one for one in records if one["claim"] == "RL removes repeated items"]
    assert [(one["dataset"], one["verdict"]) for one in claim["tests"]] == [("films", "for"), ("games", "against")]
    assert claim["verdict"] == "mixed (1 of 2 for, 1 against)"
    assert {one["verdict"] for one in records if not one["tests"]} == {"not tested"}


@pytest.mark.parametrize(
    ("value", "half", "supports", "small"),
    [
        (-0.004, 0.001, True, True),  # lower by 2% of the teacher's .2, a margin of 7%
        (-0.030, 0.001, False, True),
        (-0.013, 0.020, True, False),  # the interval holds the limit of -.014
    ],
)
def test_accuracy_is_kept_if_a_row_stays_within_the_margin(
    tmp_path: Path, value: float, half: float, supports: bool, small: bool
) -> None:
    test = CLAIMS["SL keeps accuracy: HR@10 at least 0.93 of the teacher's"][0]
    kept = folder(tmp_path / "a", "films", ("v2", "sasrec", "sequential", "HR@10", value, half))
    rows, compared = (json.loads((kept / name).read_text()) for name in ("rows.json", "comparisons.json"))
    found = effect(test, "films", rows, compared)
    assert found is not None and found.seeds == 2 and found.low < found.value < found.high
    assert (found.supports, found.p < 0.05) == (supports, small)
    assert effect(Test("v2", "v1", *PLACE), "films", rows, compared) is None


def test_a_claim_holds_only_if_every_test_speaks_for_it(tmp_path: Path) -> None:
    kept = folder(tmp_path / "a", "films", ("full", "v2", *PLACE, -0.3, 0.01))
    rows, compared = (json.loads((kept / name).read_text()) for name in ("rows.json", "comparisons.json"))
    one = effect(Test("full", "v2", *PLACE), "films", rows, compared)
    assert one is not None
    assert verdict([(one, True)]) == "holds (1 of 1 for, 0 against)"
    assert verdict([(one, True), (one, False)]) == "holds in part (1 of 2 for, 0 against)"
    assert verdict([(one, False)]) == "not shown (0 of 1 for, 0 against)"


def test_a_folder_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match=r"rows\.json: not there"):
        checked([tmp_path])
