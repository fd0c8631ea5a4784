"""Checks of values and of combinations of values, beyond their types."""

import datetime
import importlib
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from omegaconf import ListConfig, OmegaConf

from ctrlrec.config.arguments import check_trainer
from ctrlrec.config.choices import Choices, nearest
from ctrlrec.config.constraint import check_constraint
from ctrlrec.config.files import choices_of
from ctrlrec.config.options import check_bounds, check_options, option_keys
from ctrlrec.config.schema import Config, RLConfig, StageName, Trainable, known_keys, leaves
from ctrlrec.config.words import sweep_advice
from ctrlrec.errors import CtrlRecError

TABLES = ("table2", "table3", "table4", "table5", "table8", "summary")  # those that have rows of variants

_CHOICES: dict[str, tuple[str, ...]] = {
    "model.kind": ("llama_mini", "smollm2_wheel", "pretrained", "encoder_decoder"),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "variant.answers_with": ("model", "teacher", "api"),
    "variant.instructions": ("paper", "palr", "instructrec"),
    "variant.table.hidden": TABLES,
    "variant.table.unranked": TABLES,
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.strategy": ("auto", "ddp", "fsdp"),
    "generation.engine": ("auto", "native", "hf", "vllm", "api"),
    # Not 16-mixed, whose overflows are no errors, nor bf16-true: steps of RL are too small for adapters in bfloat16.
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
    "rl.algorithm.name": Choices("rl.algorithms", "ALGORITHM"),
}
# Choices that the rooms themselves know, imported when a configuration is checked.
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
    _check_pairs(config)
    _check_rl(config.rl)
    check_trainer(config.trainer)


def check_choices(config: Config) -> None:
    """Refuse options that a chosen module does not have or cannot use.

    It imports the modules, and torch with them: a run that only reuses results does without it.

    Raises:
        CtrlRecError: naming the key and the nearest valid one.
    """
    check_options(config)
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
    """Refuse keys and passwords where services are named: a configuration is written into results, logs and W&B.

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


def _check_pairs(config: Config) -> None:
    """Refuse combinations whose parts are valid alone.

    Raises:
        CtrlRecError: naming both keys and what to change.
    """
    variant, stage = config.variant, config.stage.name
    if config.trainer.devices > 1:
        raise CtrlRecError(
            f"trainer.devices={config.trainer.devices}: a process uses one device; start one for each with "
            f"torchrun --nproc-per-node {config.trainer.devices} -m ctrlrec ..., and leave trainer.devices alone"
        )
    if stage == StageName.rl and not variant.rl:
        raise CtrlRecError(f"stage=rl variant={variant.name}: {variant.name} has no RL stage; use variant=v3 or full")
    if stage == StageName.sl and not variant.tasks:
        raise CtrlRecError(
            f"stage=sl variant={variant.name}: {variant.name} has no SL stage; use variant=v1, v2 or full"
        )
    if variant.rl and not variant.tasks:
        raise CtrlRecError("variant.rl=true needs variant.tasks: RL starts from the model after SL")
    strategy = config.trainer.strategy
    if strategy == "fsdp" and variant.tasks and config.sl.trainable != Trainable.lora:
        raise CtrlRecError(
            f"trainer.strategy=fsdp sl.trainable={config.sl.trainable.value}: only frozen weights beneath an adapter "
            "are sharded; use sl.trainable=lora or trainer.strategy=ddp"
        )
    if variant.tasks and variant.answers_with != "model":
        raise CtrlRecError(
            f"variant.answers_with={variant.answers_with} trains no language model: variant.tasks must be empty"
        )
    if variant.rl and config.model.kind == "encoder_decoder":
        raise CtrlRecError(
            f"variant={variant.name} model={config.model.name}: RL needs a causal language model; use variant=v1, v2, "
            "palr or instructrec"
        )
    if variant.beam_search and config.generation.engine in ("vllm", "api"):
        raise CtrlRecError(
            f"variant={variant.name} generation.engine={config.generation.engine}: beams are searched by transformers; "
            "use generation.engine=auto"
        )
    check_constraint(config)
    if config.model.kind == "encoder_decoder" and config.generation.engine == "vllm":
        raise CtrlRecError(f"model={config.model.name} generation.engine=vllm: encoder-decoders need auto or api")
    if not _is_address(config.api.url):
        raise CtrlRecError(
            "api.url: expected http(s)://host[:port]/path without a user, a password or a query; a key belongs into "
            "the environment variable that api.key_variable names"
        )
    if config.model.max_response_length >= config.model.max_length:
        raise CtrlRecError("model.max_response_length must leave room for a prompt: it is not below model.max_length")
    mini = config.model.kind == "llama_mini"
    for key in ("hidden_size", "layers", "heads", "vocabulary"):
        value = getattr(config.model, key)
        if mini and value is None:
            raise CtrlRecError(f"model.{key} needs a number for model.kind=llama_mini")
        if not mini and value is not None:
            raise CtrlRecError(
                f"model.{key}={value} model.kind={config.model.kind}: it has its own; leave it null, "
                "or use model=llama_mini"
            )
    if mini:
        assert config.model.hidden_size is not None and config.model.heads is not None
        if config.model.hidden_size % (2 * config.model.heads):
            raise CtrlRecError("model.hidden_size must be divisible by twice model.heads (rotary positions turn pairs)")
        if config.sl.trainable == Trainable.lora:
            raise CtrlRecError(
                "model.kind=llama_mini has random weights an adapter cannot lean on: set sl.trainable=full"
            )
    if config.model.kind in ("pretrained", "encoder_decoder") and not config.model.path:
        raise CtrlRecError("model.path is empty: give a local folder or a hub id, model.path=...")


def _check_rl(rl: RLConfig) -> None:
    """Refuse settings of RL whose parts are valid alone.

    Raises:
        CtrlRecError: naming the keys and what to change.
    """
    if (length := rl.schedule_iterations) is not None and length < rl.iterations:
        raise CtrlRecError(
            f"rl.schedule_iterations={length} rl.iterations={rl.iterations}: the rate would be 0 before "
            "the end; use a number that is not below rl.iterations, or null"
        )
    if rl.item_count_min > rl.item_count_max:
        raise CtrlRecError("rl.item_count_min is larger than rl.item_count_max")
    rollouts = rl.prompts * (rl.samples_per_prompt + rl.greedy_row)
    if rollouts % rl.minibatches:
        raise CtrlRecError(
            f"rl.minibatches={rl.minibatches} does not divide the {rollouts} answers of an iteration: set a divisor "
            "of rl.prompts times the answers to a prompt, the greedy one of rl.greedy_row included"
        )
    if rl.validate_every is not None and rl.validate_every > rl.iterations:
        raise CtrlRecError(
            f"rl.validate_every={rl.validate_every} rl.iterations={rl.iterations}: it would never validate; lower "
            "rl.validate_every, or set it to null"
        )
    if rl.critic_ahead >= rl.iterations:
        raise CtrlRecError(
            f"rl.critic_ahead={rl.critic_ahead} rl.iterations={rl.iterations}: the actor would never learn; lower "
            "rl.critic_ahead"
        )


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        port = address.port  # says so where it is no number
    except ValueError:
        return False
    known = address.scheme in ("http", "https") and address.hostname and port != 0
    return bool(known) and not address.username and not address.query
