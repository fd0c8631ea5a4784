"""Checks of values and of combinations of values, beyond their types."""

import datetime
import difflib
import importlib
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from omegaconf import ListConfig, OmegaConf

from ctrlrec.config.choices import Choices
from ctrlrec.config.schema import SHARING_OUT, Config, StageName, Trainable, known_keys, leaves
from ctrlrec.errors import CtrlRecError

_CHOICES: dict[str, tuple[str, ...]] = {
    "model.kind": ("llama_mini", "smollm2_wheel", "pretrained", "encoder_decoder"),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "variant.answers_with": ("model", "teacher", "api"),
    "variant.instructions": ("paper", "palr", "instructrec"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.strategy": ("auto", "ddp", *SHARING_OUT),
    "generation.engine": ("auto", "native", "hf", "vllm", "api"),
    # Not 16-mixed, whose overflows are no errors, nor bf16-true: steps of RL are too small for adapters in bfloat16.
    "trainer.precision": ("auto", "32-true", "bf16-mixed"),
    "trainer.matmul_precision": ("highest", "high", "medium"),
    "logger.wandb": ("auto", "online", "offline", "disabled"),
}


# Choices that are the modules of a folder, looked up without importing them.
_MODULES: dict[str, Choices[Any]] = {
    "dataset.source": Choices("data.sources", "SOURCE"),
    "constraint.name": Choices("generation.constraints", "CONSTRAINT"),
}
# Choices that the rooms themselves know, imported when a configuration is checked.
_REGISTRIES = {
    "reward.name": "ctrlrec.rewards.schemes:SCHEMES",
    "evaluation.settings": "ctrlrec.evaluation.settings:settings",
    "cases.settings": "ctrlrec.evaluation.settings:settings",
    "variant.tasks": "ctrlrec.controls.registry:families",
}


_LIST_BOUNDS: dict[str, tuple[int, int]] = {
    "instructions.proportions": (0, 100),  # whole percents
    "evaluation.formatting_item_counts": (1, 100),
}


_FOLDERS = ("dataset.name", "model.name", "teacher.name", "variant.name", "budget.name")


# Keys as the services in use issue them, and credentials inside an address.
SECRET = re.compile(
    r"://[^/\s@]+:[^/\s@]+@"
    r"|(?<![A-Za-z0-9])(?:g?sk[-_]|xai-|gh[opsu]_|github_pat_|glpat-|xox[abp]-|AKIA|AIza|wandb_v)[A-Za-z0-9_-]{16,}"
    r"|(?<![A-Za-z0-9])hf_[A-Za-z0-9]{20,}"
    r"|(?<![A-Za-z0-9_./-])[0-9a-f]{40}(?![A-Za-z0-9_./-])"
)


_HASHES = ("model.revision", "cases.users")  # may be forty hexadecimal digits too: commits, users made anonymous


_HASH = re.compile("[0-9a-f]{40}")


# Short words in capitals, which no key consists of: it would be repeated wherever the variable is named.
_VARIABLE = re.compile("[A-Z][A-Z0-9]{0,19}(?:_[A-Z0-9]{1,20})*")


def nearest(word: str, choices: Iterable[str]) -> str:
    """A sentence part naming the valid choice that looks most like ``word``, or all of a few."""
    names = list(choices)
    tails = {name.rsplit(".", 1)[-1]: name for name in names}
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    close = close or [
        tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], list(tails), n=1, cutoff=0.6)
    ]
    if close:
        return f"did you mean '{close[0]}'?"
    return f"valid: {', '.join(names)}" if len(names) <= 12 else "see --cfg job for every key"


def check(config: Config) -> None:
    """Refuse values that are out of range, unknown, secret, or impossible together.

    Raises:
        CtrlRecError: naming the key and the nearest valid choice.
    """
    node: Any = config
    _check_secrets(config)  # first: later messages repeat values
    for key, entry in leaves():
        if "low" not in entry.metadata:
            continue
        value, low, high = OmegaConf.select(node, key), entry.metadata["low"], entry.metadata["high"]
        if value is not None and (value < low or (high is not None and value > high)):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise CtrlRecError(f"{key}={value}: expected a number {bounds}")
    known: dict[str, Iterable[str]] = {key: _registered(place) for key, place in _REGISTRIES.items()}
    for key, choices in {**_CHOICES, **_MODULES, **known, "variant.differs": known_keys()}.items():
        value = OmegaConf.select(node, key)
        for one in value if isinstance(value, ListConfig) else [value]:
            if one not in choices:
                said = f"{key} contains '{one}'" if isinstance(value, ListConfig) else f"{key}={one}"
                raise CtrlRecError(f"{said}: {nearest(str(one), choices)}")
    for key, (low, high) in _LIST_BOUNDS.items():
        values = list(OmegaConf.select(node, key))
        if not values:
            raise CtrlRecError(f"{key} is empty: list at least one whole number between {low} and {high}, such as [11]")
        if wrong := [value for value in values if not low <= value <= high]:
            raise CtrlRecError(f"{key} contains {wrong[0]}: expected whole numbers between {low} and {high}")
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


def _registered(place: str) -> Iterable[str]:
    module, name = place.split(":")
    found = getattr(importlib.import_module(module), name)
    return found() if callable(found) else found


def _check_secrets(config: Config) -> None:
    """Refuse keys and passwords: a configuration is written into results, logs and W&B.

    Raises:
        CtrlRecError: naming the key of the configuration, never its value.
    """
    for key in known_keys():
        value = OmegaConf.select(config, key)  # type: ignore[arg-type]
        for text in value if isinstance(value, ListConfig) else [value]:
            if not isinstance(text, str) or (key in _HASHES and _HASH.fullmatch(text)):
                continue
            if SECRET.search(text):
                raise CtrlRecError(
                    f"{key} holds what looks like a key or a password, and a configuration is written into every "
                    "result: give it through the environment instead (WANDB_API_KEY, HF_TOKEN, ...)"
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
    if strategy in SHARING_OUT and variant.tasks and config.sl.trainable != Trainable.lora:
        raise CtrlRecError(
            f"trainer.strategy={strategy} sl.trainable={config.sl.trainable.value}: only frozen weights, beneath an "
            "adapter, are shared out; use sl.trainable=lora or trainer.strategy=ddp"
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
    if config.constraint.name != "none":
        engine = "api" if variant.answers_with == "api" else config.generation.engine
        if engine in ("vllm", "api") and variant.answers_with != "teacher":
            raise CtrlRecError(
                f"constraint.name={config.constraint.name}: answers of {engine} cannot be constrained; set "
                "constraint.name=none, or generation.engine=auto with a row whose model answers"
            )
    if config.model.kind == "encoder_decoder" and config.generation.engine == "vllm":
        raise CtrlRecError(f"model={config.model.name} generation.engine=vllm: encoder-decoders need auto or api")
    if not _is_address(config.api.url):
        raise CtrlRecError(
            "api.url: expected http(s)://host[:port]/path without a user, a password or a query; a key belongs into "
            "the environment variable that api.key_variable names"
        )
    if config.rl.item_count_min > config.rl.item_count_max:
        raise CtrlRecError("rl.item_count_min is larger than rl.item_count_max")
    if config.model.max_response_length >= config.model.max_length:
        raise CtrlRecError("model.max_response_length must leave room for a prompt: it is not below model.max_length")
    if config.teacher.embedding % config.teacher.heads:
        raise CtrlRecError("teacher.embedding must be divisible by teacher.heads")
    rollouts = config.rl.prompts * config.rl.samples_per_prompt
    if rollouts % config.rl.minibatches:
        raise CtrlRecError(
            f"rl.minibatches={config.rl.minibatches} does not divide the {rollouts} answers of an iteration"
        )
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


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        port = address.port  # says so where it is no number
    except ValueError:
        return False
    known = address.scheme in ("http", "https") and address.hostname and port != 0
    return bool(known) and not address.username and not address.query
