"""The code that a stage of a run rests on."""

import functools
from pathlib import Path

from ctrlrec.config.compose import compose
from ctrlrec.pipeline.plan import _choices, outdated, plan
from ctrlrec.runtime import code

composed = functools.cache(compose)
SERVED = ("variant=full", "generation.engine=api", "api.model=m")


def engines(stage: str, *words: str) -> set[str]:
    """The engines among the files that a stage rests on."""
    found = code.rests_on(f"pipeline.{stage}", _choices(composed(*words), stage))
    places = {name.removeprefix("generation/engines/") for name in found if name.startswith("generation/engines/")}
    return places - {"__init__.py", "base.py"}


def test_a_server_that_answers_in_evaluation_is_no_code_of_rl() -> None:
    here, served = (plan(composed(*words)) for words in (("variant=full",), SERVED))
    assert here["rl"].code == served["rl"].code
    assert "generation" in code.changed(here["evaluate"].code, served["evaluate"].code)


def test_only_the_engine_that_a_stage_asks_counts() -> None:
    assert engines("evaluate", *SERVED) == engines("evaluate", "variant=api", "api.model=m") == {"api.py"}
    assert "auto.py" in engines("rl", *SERVED) and "api.py" not in engines("rl", *SERVED)
    assert not engines("evaluate", "variant=sasrec") and not engines("sl", "variant=full")


def test_a_result_without_its_record_is_outdated(tmp_path: Path) -> None:
    for stage in ("rl", "evaluate"):
        assert outdated(tmp_path / stage / "made").startswith("code in ")
