"""What Weights & Biases does wrong ends nothing: one line, and less is tracked."""

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import wandb

from ctrlrec.config.compose import compose
from ctrlrec.pipeline.plan import STAGES
from ctrlrec.runtime import loggers, tracking


class Run:
    """A run that fails when told to."""

    offline = True

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> None:
            if self.broken:
                raise BrokenPipeError(errno.EPIPE, "the service is gone\nwith details")
            self.calls.append(name)

        return call


@pytest.fixture(autouse=True)
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_unreachable", False)
    monkeypatch.delenv("WANDB_MODE", raising=False)


def begin(folder: Path, **changed: Any) -> tracking.Tracker | None:
    told = {"name": "n", "job_type": "sl", "group": "g", "tags": ["a", "a"], "settings": {}}
    return tracking.start(compose("logger=online").logger, folder, **(told | changed))


def test_a_run_that_breaks_is_said_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    tracker = tracking.Tracker(run)
    tracker.log_metrics({"loss": 1.0}, step=1)
    run.broken = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            tracker.log_metrics({"loss": 1.0}, step=2)
            tracker.summarise({"a": 1.0})
            tracker.show({"t": (["a"], [["1"]])})
        tracker.close(success=True)
    assert run.calls.count("log") == 1 and "finish" not in run.calls
    (record,) = caplog.records
    assert "the service is gone" in record.getMessage() and "\n" not in record.getMessage()


@pytest.mark.parametrize(
    ("failures", "modes", "said"),
    [
        ((None,), ["online"], 0),
        ((wandb.errors.CommError("no network\nmore"), None), ["online", "offline"], 1),
        ((wandb.errors.CommError("no network"), OSError(errno.ENOSPC, "No space left")), ["online", "offline"], 2),
    ],
)
def test_a_start_that_fails_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failures, modes, said: int
) -> None:
    asked: list[dict[str, Any]] = []
    coming = iter(failures)

    def init(**options: Any) -> Run:
        asked.append(options)
        failure = next(coming)
        if failure is not None:
            raise failure
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    tracker = begin(tmp_path, tags=["t" * 70, "u" * 70, "t" * 70], name="n" * 200, group="g" * 200)
    assert [options["mode"] for options in asked] == modes and len(caplog.records) == said
    assert (tracker is None) == (failures[-1] is not None)
    assert all("\n" not in record.getMessage() for record in caplog.records)
    for options in asked:
        assert len(options["tags"]) == 2 and {len(tag) for tag in options["tags"]} == {64}
        assert len(options["name"]) == len(options["group"]) == 128
    if len(modes) == 2:  # the next stage does not wait for the network again
        coming = iter((None,))
        begin(tmp_path)
        assert asked[-1]["mode"] == "offline"


@pytest.mark.parametrize(
    ("variable", "mode"),
    [("online", "online"), ("run", "online"), ("dryrun", "offline"), ("disabled", "disabled"), ("maybe", "offline")],
)
def test_the_mode_of_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str, mode: str) -> None:
    monkeypatch.setenv("WANDB_MODE", variable)
    assert tracking.wandb_mode("auto") == mode
    assert tracking.wandb_mode("offline") == "offline"


def test_without_a_home_there_is_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert tracking.wandb_mode("auto") == "offline"


def test_texts_that_are_too_long_stay_apart() -> None:
    one, other = (tracking.shortened("x" * 100 + end, 64) for end in "ab")
    assert one != other and len(one) == len(other) == 64
    assert tracking.shortened("x" * 64, 64) == "x" * 64


def test_the_best_validation_reward_so_far_is_logged_beside_each() -> None:
    logged: list[dict[str, float]] = []
    run = Run()
    run.log = logged.append  # type: ignore[attr-defined]
    tracker = tracking.Tracker(run)
    for step, reward in enumerate([1.0, 3.0, 2.0]):
        tracker.log_metrics({tracking.VALIDATED: reward}, step)
    tracker.log_metrics({"loss": 0.0}, 3)
    assert [values.get(tracking.BEST) for values in logged] == [1.0, 3.0, 3.0, None]


def test_the_best_validation_reward_of_earlier_attempts_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt, lines in enumerate(["step,loss\n0,5\n", "step,validation/reward\n0,\n1,4.5\n2,2\n3,-\n"]):
        log = tmp_path / "logs" / f"attempt_{attempt}" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text(lines)
    logged: list[dict[str, float]] = []
    run = Run()
    run.log = logged.append  # type: ignore[attr-defined]
    monkeypatch.setattr(wandb, "init", lambda **_: run)
    tracker = begin(tmp_path)
    assert tracker is not None
    for step, reward in enumerate([3.0, 6.0], 4):
        tracker.log_metrics({tracking.VALIDATED: reward}, step)
    assert [values[tracking.BEST] for values in logged] == [4.5, 6.0]


@pytest.mark.parametrize("split", ["last_out", "global_time"])
def test_the_run_of_a_row_is_named_without_data_and_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    monkeypatch.setattr(tracking, "start", lambda *_, name, **__: name)
    config = compose("variant=full", f"dataset.split={split}")
    told = {"label": STAGES["evaluate"].label(config)}
    assert loggers._tracker(config, "evaluate", tmp_path, told) == "full-seed0"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("variant", "stage", "name"),
    [("full", "evaluate", "row-seed0-rl7"), ("full", "rl", "rl-row-seed0-rl7"), ("full", "sl", "sl-row-seed0"),
     ("v2", "evaluate", "row-seed0")],
)  # fmt: skip
def test_runs_of_several_seeds_of_rl_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, stage: str, name: str
) -> None:
    monkeypatch.setattr(tracking, "start", lambda *_, name, **__: name)
    config = compose(f"variant={variant}", "rl.seed=7")
    assert loggers._tracker(config, stage, tmp_path, {"label": "row"}) == name  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("asked", [False, True])
def test_an_agent_decides_the_run_of_the_stage_asked_for_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """W&B would give the agent's id to every run of the process: all stages would be one run."""
    given = {"WANDB_SWEEP_ID": "s1", "WANDB_SWEEP_PARAM_PATH": "p", "WANDB_RUN_ID": "r1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen: dict[str, Any] = {}
    torn_down: list[bool] = []

    def init(**options: Any) -> Run:
        seen.update(options, environment={name: os.environ.get(name) for name in given})
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: torn_down.append(True))
    begin(tmp_path, asked=asked)
    assert seen["environment"] == (given if asked else dict.fromkeys(given))
    assert (seen["id"] is None, seen["project"]) == ((True, None) if asked else (False, "ctrlrec"))
    assert torn_down and {name: os.environ[name] for name in given} == given
