"""Callbacks and further arguments of Lightning's trainer from the configuration."""

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+trainer.extra.detect_anomoly=true", r"unknown key 'trainer\.extra\.detect_anomoly': did you mean 'detect_a"),
        ("+trainer.extra.detect_anomaly=often", r"trainer\.extra\.detect_anomaly='often': expected .*bool"),
        ("+trainer.extra.detect_anomaly={a: 1}", r"trainer\.extra\.detect_anomaly=.*expected .*bool"),
        ("+trainer.extra.deterministic=perhaps", r"deterministic='perhaps': expected .*bool.*warn"),
        ("+trainer.extra.max_epochs=3", r"trainer\.extra\.max_epochs: it is set by this package; .*rl\.iterations"),
        ("+trainer.extra.gradient_clip_val=1", r"gradient_clip_val.*rl\.gradient_clip"),
        ("+trainer.extra.fast_dev_run=true", "fast_dev_run"),
        ("+trainer.callbacks.learning_rate_moniter={}", "no such callback; did you mean 'learning_rate_monitor'"),
        ("+trainer.callbacks.learning_rate_monitor={interval: step}", "did you mean 'logging_interval'"),
        ("+trainer.callbacks.learning_rate_monitor={logging_interval: hour}", "logging_interval='hour': expected"),
        ("+trainer.callbacks.learning_rate_monitor={log_momentum: 1}", "log_momentum=1: expected.*bool"),
        ("+trainer.callbacks={_target_: os.system}", "trainer.callbacks"),
    ],
)
def test_what_lightning_cannot_use_is_refused_before_a_stage_runs(override: str, said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        compose(override)


def test_every_argument_that_is_set_by_the_package_is_refused() -> None:
    """The trainer's own arguments, as :mod:`ctrlrec.runtime.trainer` and the three trainings name them."""
    from pathlib import Path

    import ctrlrec
    from ctrlrec.config.arguments import _OURS

    home, named = Path(ctrlrec.__file__).parent, set()
    for file in ("runtime/trainer.py", "teacher/train.py", "sl/train.py", "rl/train.py"):
        text = (home / file).read_text(encoding="utf-8")
        for call in text.split("trainer(\n")[1:] + text.split("pl.Trainer(\n")[1:]:
            for line in call.split("\n    )")[0].splitlines():
                name, equals, _ = line.strip().partition("=")
                if equals and name.isidentifier() and name != "checkpoint_every":  # of trainer(), not of Lightning
                    assert name in _OURS, (file, name)
                    named.add(name)
    assert {"plugins", "max_epochs", "check_val_every_n_epoch"} <= named


@pytest.mark.parametrize("value", ["true", "false", "warn"])
def test_arguments_of_the_right_type_pass(value: str) -> None:
    extra = compose(f"+trainer.extra.deterministic={value}", "+trainer.extra.benchmark=false").trainer.extra
    assert extra == {"deterministic": {"true": True, "false": False}.get(value, value), "benchmark": False}
