"""Options that a chosen module declares itself."""

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["rl.algorithm.name=gpro"], "rl.algorithm.name=gpro: did you mean 'grpo'"),
        (["+rl.algorithm.options.whiten_advantges=task"], "did you mean 'whiten_advantages'"),
        (["rl.algorithm.options.whiten_advantages=tsk"], "rl.algorithm.options.whiten_advantages: Invalid value 'tsk'"),
        (["rl.algorithm.options=null"], "rl.algorithm.options"),
        (["rl.algorithm.options={}", "~rl.algorithm.options.whiten_advantages"], "no value for rl.algorithm.options"),
        (
            ["rl.algorithm.name=grpo"],
            "unknown key 'rl.algorithm.options.whiten_advantages'.*has no options",
        ),
        (["rl/algorithm=grpo", "rl.samples_per_prompt=1"], "set rl.samples_per_prompt to at least 2"),
        (["rl/algorithm=item_grpo", "rl.critic_ahead=3"], "it has no critic; set rl.critic_ahead=0"),
        (["variant.differs=[rl.algorithm.options.whitening]"], "variant.differs contains"),
    ],
)
def test_wrong_options_name_the_key(overrides: list[str], said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        compose(*overrides)


def test_options_have_their_types() -> None:
    config = compose("rl.algorithm.options.whiten_advantages=task", "variant.differs=[rl.algorithm.options]")
    assert config.rl.algorithm.options == {"whiten_advantages": "task"}
    assert compose("rl/algorithm=grpo").rl.algorithm.options == {}
