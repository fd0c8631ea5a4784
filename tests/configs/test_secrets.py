"""Keys and passwords never reach what a run writes down."""

import pytest

from ctrlrec.config import SECRET, compose
from ctrlrec.errors import CtrlRecError

# Put together here, so that no scanner takes this file for a leak.
KEYS = (
    "hf" + "_abcdefghijklmnopqrstuvwxyz",
    "sk" + "-proj-abcdefghijklmnop",
    "ghp" + "_0123456789abcdefghijklmnop",
    "0123456789abcdef" * 2 + "01234567",  # a Weights & Biases key
    "https://someone:word@example.org/model",
)
HARMLESS = (
    "runs/hf_models", "task-1", "a/snapshots/" + "0123456789" * 4 + "/x", "max_new_tokens=64", "meta-llama/Llama-2-7b",
    "mailto:someone@example.org", "https://example.org/a@b",
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "secret"),
    [*(("model.path", secret) for secret in KEYS), ("logger.entity", KEYS[0]), ("variant.prompt_suffix", KEYS[0])],
)
def test_a_configuration_that_holds_one_is_refused_without_repeating_it(key: str, secret: str) -> None:
    with pytest.raises(CtrlRecError, match=key) as raised:
        compose(f"{key}='{secret}'")
    assert secret not in str(raised.value)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_resembles_one_is_accepted(text: str) -> None:
    compose(f"model.path='{text}'")


def test_a_commit_is_no_key() -> None:
    compose(f"model.revision={KEYS[3]}")


@pytest.mark.parametrize("secret", KEYS)
def test_a_recorded_command_leaves_them_out(secret: str) -> None:
    assert secret not in SECRET.sub("...", f"python -m ctrlrec hydra.job.name={secret} seed=1")
