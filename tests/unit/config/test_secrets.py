"""Keys and passwords never reach what a run writes down."""

import pytest

from ctrlrec.config.checks import SECRET
from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError

# Put together here, so that no scanner takes this file for a leak.
WANDB = "0123456789abcdef" * 2 + "01234567"
KEYS = (
    "hf" + "_abcdefghijklmnopqrstuvwxyz",
    "sk" + "-proj-abcdefghijklmnop",
    "ghp" + "_0123456789abcdefghijklmnop",
    "gsk" + "_0123456789abcdefghijklmnop",
    "xai" + "-0123456789abcdefghijklmnop",
    WANDB,
    "https://someone:word@example.org/model",
)
HARMLESS = (
    "runs/hf_models", "task-1", "a/snapshots/" + "0123456789" * 4 + "/x", "max_new_tokens=64", "meta-llama/Llama-2-7b",
    "mailto:someone@example.org", "https://example.org/a@b",
)  # fmt: skip


@pytest.mark.parametrize("key", ["logger.entity", "logger.project", "logger.group", "api.model", "api.url"])
@pytest.mark.parametrize("secret", KEYS)
def test_a_service_that_is_given_one_is_refused_without_repeating_it(key: str, secret: str) -> None:
    with pytest.raises(CtrlRecError, match=key) as raised:
        compose(f"{key}='{secret}'")
    assert secret not in str(raised.value)


@pytest.mark.parametrize(
    "secret", [*KEYS, "gsk" + "_AbCdEf0123", "0123456789abcdef" * 2, "ABCDEF0123456789" * 2, "", "a b"]
)
def test_a_key_in_place_of_its_variable_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(CtrlRecError, match=r"api\.key_variable") as raised:
        compose(f"api.key_variable='{secret}'")
    assert not secret or secret not in str(raised.value)


@pytest.mark.parametrize("name", ["KEY", "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY_2", "null"])
def test_names_of_variables_are_accepted(name: str) -> None:
    compose(f"api.key_variable={name}")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_resembles_one_is_accepted(text: str) -> None:
    compose(f"logger.group='{text}'")


def test_commits_paths_and_hashed_users_are_no_keys() -> None:
    compose(
        f"model.revision={WANDB}", f"cases.users=[{WANDB}]", f"model.path={WANDB}", f"variant.prompt_suffix={WANDB}"
    )


@pytest.mark.parametrize("secret", KEYS)
def test_a_recorded_command_leaves_them_out(secret: str) -> None:
    assert secret not in SECRET.sub("...", f"python -m ctrlrec hydra.job.name={secret} seed=1")
