"""What a released model remembers of its configuration."""

from dataclasses import fields

from ctrlrec.app.release import _SECTIONS
from ctrlrec.config.schema import Config

# How a row was trained and where; answers need none of it.
_LEFT_OUT = {
    "output", "cache", "stale", "stage", "sl", "rl", "api", "general", "cases", "trainer", "logger", "budget",
}  # fmt: skip


def test_every_section_is_remembered_or_left_out_on_purpose() -> None:
    """A section that is forgotten gets today's default, and the model another tokenizer or another prompt."""
    assert {field.name for field in fields(Config)} == set(_SECTIONS) | _LEFT_OUT
    assert not set(_SECTIONS) & _LEFT_OUT
