"""Checks of values beyond their types; :mod:`ctrlrec.config.pairs` checks combinations."""

import datetime
import importlib
import re
from collections.abc import Iterable
from typing import Any

from omegaconf import ListConfig, OmegaConf

from ctrlrec.config.arguments import check_trainer
from ctrlrec.config.choices import Choices, nearest
from ctrlrec.config.engines import ENGINES, check_engine
from ctrlrec.config.files import choices_of
from ctrlrec.config.options import check_bounds, check_options, option_keys
from ctrlrec.config.pairs import check_pairs, check_rl
from ctrlrec.config.schema import Config, known_keys, leaves
from ctrlrec.config.words import sweep_advice
from ctrlrec.errors import CtrlRecError

TABLES = ("table2", "table3", "table4", "table5", "table8", "summary")  # those that have rows of variants

_CHOICES: dict[str, tuple[str, ...]] = {
    "model.kind": ("llama_mini", "smollm2_wheel", "pretrained", "encoder_decoder"),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "indexing.name": ("title", "item_token"),
    "variant.answers_with": ("model", "teacher", "api"),
    "variant.instructions": ("paper", "palr", "instructrec"),
    "variant.table.hidden": TABLES,
    "variant.table.unranked": TABLES,
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.strategy": ("auto", "ddp", "fsdp"),
    # Not 16-mixed, whose overflows are not errors, nor bf16-true: steps of RL are too small for adapters in bfloat16.
    "trainer.precision": ("auto", "32-true", "bf16-mixed"),
    "trainer.matmul_precision": ("highest", "high", "medium"),
    "logger.wandb": ("auto", "online", "offline", "disabled"),
}

# Choices that are the modules of a folder, looked up without importing them.
MODULES: dict[str, Choices[Any]] = {
    "dataset.source": Choices("data.sources", "SOURCE"),
    "teacher.model": Choices("teacher.models", "TEACHER"),
    "reward.item": Choices("rewards.schemes", "SCHEME"),
    "reward.list": Choices("rewards.schemes", "SCHEME"),
    "constraint.name": Choices("generation.constraints", "CONSTRAINT"),
    "rl.guided_row": Choices("generation.constraints", "CONSTRAINT"),
    "generation.engine": ENGINES,
    "rl.algorithm.name": Choices("rl.algorithms", "ALGORITHM"),
}
# Choices that other rooms define, imported when a configuration is checked.
_REGISTRIES = {
    "evaluation.settings": "ctrlrec.evaluation.settings:settings",
    "cases.settings": "ctrlrec.evaluation.settings:settings",
    "variant.tasks": "ctrlrec.controls.registry:families",
    "dataset.attributes": "ctrlrec.data.attributes:ATTRIBUTES",
}

# Lists of keys of the configuration.
_KEY_LISTS = ("variant.differs", "budget.sets")

_LIST_BOUNDS: dict[str, tuple[int, int]] = {
    "instructions.proportions": (0, 100),  # whole percents
    "evaluation.formatting_item_counts": (1, 100),
}

_FOLDERS = ("dataset.name", "model.name", "teacher.name", "reward.name", "variant.name", "budget.name")

# Keys as the services in use issue them, and credentials inside an address.
SECRET = re.compile(
    r"://[^/\s@]+:[^/\s@]+@"
    r"|(?<![A-Za-z0-9])(?:g?sk[-_]|xai-|gh[opsu]_|github_pat_|glpat-|xox[abp]-|AKIA|AIza|wandb_v)[A-Za-z0-9_-]{16,}"
    r"|(?<![A-Za-z0-9])hf_[A-Za-z0-9]{20,}"
    r"|(?<![A-Za-z0-9_./-])[0-9a-f]{40}(?![A-Za-z0-9_./-])"
)

_SECRETIVE = ("api.", "logger.")  # sections about services that ask for a key

# Short words in capitals, which no key consists of: it would be repeated wherever the variable is named.
_VARIABLE = re.compile("[A-Z][A-Z0-9]{0,19}(?:_[A-Z0-9]{1,20})*")


def check(config: Config) -> None:
    """Refuse values that are out of range, unknown, secret, or impossible together.

    Raises:
        CtrlRecError: naming the key and the nearest valid choice.
    """
    node: Any = config
    _check_secrets(config)  # first: later messages repeat values
    for key, entry in leaves():
        check_bounds(key, OmegaConf.select(node, key), entry)
    for key, choices in _known(config).items():
        value = OmegaConf.select(node, key)
        for one in value if isinstance(value, ListConfig) else [value]:
            valid = option_keys(one) or choices if key == "variant.differs" else choices
            if one not in valid:
                said = f"{key} contains '{one}'" if isinstance(value, ListConfig) else f"{key}={one}"
                raise CtrlRecError(f"{said}: {nearest(str(one), valid)}{sweep_advice(key, one)}")
    for key, (low, high) in _LIST_BOUNDS.items():
        values = list(OmegaConf.select(node, key))
        if not values:
            raise CtrlRecError(f"{key} is empty: list at least one whole number between {low} and {high}, such as [11]")
        if wrong := [value for value in values if not low <= value <= high]:
            raise CtrlRecError(f"{key} contains {wrong[0]}: expected whole numbers between {low} and {high}")
    if not config.output:
        raise CtrlRecError("output: a folder is expected, such as output=runs")
    for key in _FOLDERS:
        name = OmegaConf.select(node, key)
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise CtrlRecError(f"{key}={name}: it names folders; expected letters, digits and any of . _ + -")
    try:
        datetime.date.fromisoformat(config.model.template_date)
    except ValueError:
        raise CtrlRecError(
            f"model.template_date={config.model.template_date}: expected a day as year-month-day, such as 2024-07-26"
        ) from None
    settings = list(OmegaConf.select(node, "evaluation.settings"))
    if not settings or len(set(settings)) < len(settings):
        raise CtrlRecError(f"evaluation.settings={settings}: expected at least one setting, and each once")
    check_pairs(config)
    check_rl(config.rl)
    check_trainer(config.trainer)


def check_choices(config: Config) -> None:
    """Refuse what a chosen module does not have or cannot do.

    It imports the modules, and torch with them: a run that only reuses results does without it.

    Raises:
        CtrlRecError: naming the key and the nearest valid one.
    """
    check_options(config)
    check_engine(config)
    MODULES["rl.algorithm.name"][config.rl.algorithm.name].check(config.rl)


def _known(config: Config) -> dict[str, Iterable[str]]:
    """Return the valid values of every key that names a choice or other keys."""
    registered = {key: _registered(place) for key, place in _REGISTRIES.items()}
    # Rows are called by their variants, the teacher's by the teacher.
    rows = {"variant.table.compared_with": [*choices_of("variant"), config.teacher.name]}
    return {**_CHOICES, **MODULES, **registered, **rows, **dict.fromkeys(_KEY_LISTS, known_keys())}


def _registered(place: str) -> Iterable[str]:
    module, name = place.split(":")
    found = getattr(importlib.import_module(module), name)
    return found() if callable(found) else found


def _check_secrets(config: Config) -> None:
    """Refuse keys and passwords in sections that name services: a configuration is written into results, logs and W&B.

    Raises:
        CtrlRecError: naming the key of the configuration, never its value.
    """
    for key in known_keys():
        value = OmegaConf.select(config, key) if key.startswith(_SECRETIVE) else None  # type: ignore[arg-type]
        if isinstance(value, str) and SECRET.search(value):
            raise CtrlRecError(
                f"{key} holds what looks like a key or a password, and a configuration is written into every result: "
                "give it through the environment instead (WANDB_API_KEY, HF_TOKEN, ...)"
            )
    variable = config.api.key_variable
    if variable is not None and not _VARIABLE.fullmatch(variable):
        raise CtrlRecError(
            "api.key_variable: expected the name of an environment variable that holds the key, such as "
            "OPENAI_API_KEY (words of at most 20 capital letters and digits, joined by underscores), not the key "
            "itself; null for a server without one"
        )
