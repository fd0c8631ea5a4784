import pytest

from ctrlrec.config.compose import compose, constraint_settings, plain, recorded
from ctrlrec.errors import CtrlRecError


def test_a_recorded_configuration_comes_back() -> None:
    config = compose("variant=v3", "teacher=gru4rec", "seed=3")
    assert plain(recorded(plain(config))) == plain(config)


def test_a_key_that_it_was_made_without_has_todays_default() -> None:
    today = plain(compose("variant=v2"))
    old = plain(compose("variant=v2"))
    del old["generation"]["batch_size"], old["constraint"], old["rl"]["algorithm"]
    assert plain(recorded(old)) == today


def test_options_of_another_teacher_are_not_mixed_with_the_defaults() -> None:
    old = plain(compose("teacher=gru4rec"))
    del old["cases"]
    assert plain(recorded(old))["teacher"]["options"] == old["teacher"]["options"]


def test_values_may_be_changed_and_unknown_keys_are_refused() -> None:
    old = plain(compose())
    assert recorded(old, trainer__progress=False, generation__engine="hf").generation.engine == "hf"
    with pytest.raises(CtrlRecError, match=r"unknown key 'sl\.learningrate'"):
        recorded(old | {"sl": old["sl"] | {"learningrate": 1}})


def test_a_constraint_is_chosen_by_name() -> None:
    assert constraint_settings("none").name == "none"
    with pytest.raises(CtrlRecError, match="constraint=nune: no such choice; did you mean 'none'"):
        constraint_settings("nune")
