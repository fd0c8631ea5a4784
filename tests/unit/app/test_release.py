"""What a released model remembers of its configuration."""

from dataclasses import fields

import pytest

from ctrlrec.app.release import _SECTIONS, model_card
from ctrlrec.config.compose import compose, plain
from ctrlrec.config.schema import Config

# How a row was trained and where; answers need none of it.
_LEFT_OUT = {
    "output", "cache", "stale", "stage", "sl", "rl", "api", "general", "cases", "trainer", "logger", "budget",
}  # fmt: skip


def test_every_section_is_remembered_or_left_out_on_purpose() -> None:
    """A section that is forgotten gets today's default, and the model another tokenizer or another prompt."""
    assert {field.name for field in fields(Config)} == set(_SECTIONS) | _LEFT_OUT
    assert not set(_SECTIONS) & _LEFT_OUT


@pytest.mark.parametrize(
    ("made", "said"), [({}, "seed 0. Provenance"), ({"rl_seed": 4}, "seed 0, RL's own seed 4. Provenance")]
)
def test_the_card_gives_the_seed_of_rl_if_it_is_another(made: dict[str, int], said: str) -> None:
    how = {"command": "", "git_commit": "0123abc", "seed": 0, **made}
    record = {"name": "n", "config": plain(compose("variant=full")), "data": {"titles": "inside"}, "made": how}
    assert said in model_card(record, {"settings": {}}, {"settings": {}}, 1)
