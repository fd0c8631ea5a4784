"""The typed schema of every setting, merged over the composed configuration, and cross-field checks.

Defaults live in ``conf/`` only: a field here says its name, type and meaning, never a value.
"""

import difflib
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import hydra
from hydra import initialize_config_dir
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from ctrlrec.errors import CtrlRecError

T = TypeVar("T")


class StageName(StrEnum):
    """How far a run goes (``stage=``)."""

    data = "data"
    teacher = "teacher"
    instructions = "instructions"
    sl = "sl"
    rl = "rl"
    evaluate = "evaluate"
    all = "all"


class CategoryKind(StrEnum):
    """What the ``categories`` of an item are (spec section 2)."""

    auto = "auto"
    path = "path"
    flat = "flat"


class Trainable(StrEnum):
    """Which weights SL trains."""

    lora = "lora"
    full = "full"


class CategorySampling(StrEnum):
    """How the target category of a training instruction is drawn."""

    ground_truth = "ground_truth"
    uniform = "uniform"


@dataclass
class DatasetConfig:
    """Where interactions come from and which of them are kept."""

    name: str = MISSING
    source: str = MISSING
    path: str | None = MISSING
    category: str | None = MISSING
    categories: CategoryKind = MISSING
    min_user_interactions: int = MISSING
    min_item_interactions: int = MISSING
    title_max_tokens: int = MISSING
    history_length: int = MISSING


@dataclass
class ModelConfig:
    """The backbone language model and how its weights are adapted in SL."""

    name: str = MISSING
    kind: str = MISSING
    path: str | None = MISSING
    revision: str | None = MISSING
    dtype: str = MISSING
    attention: str | None = MISSING
    system_prompt: str | None = MISSING
    max_length: int = MISSING
    max_response_length: int = MISSING
    hidden_size: int | None = MISSING
    layers: int | None = MISSING
    heads: int | None = MISSING
    vocabulary: int | None = MISSING


@dataclass
class TeacherConfig:
    """SASRec and its training."""

    name: str = MISSING
    embedding: int = MISSING
    layers: int = MISSING
    heads: int = MISSING
    dropout: float = MISSING
    learning_rate: float = MISSING
    weight_decay: float = MISSING
    batch_size: int = MISSING
    max_epochs: int = MISSING
    patience: int = MISSING


@dataclass
class InstructionsConfig:
    """The instruction set of Table 7."""

    item_count_max: int = MISSING
    candidate_share: float = MISSING
    candidate_count: int = MISSING
    category_sampling: CategorySampling = MISSING
    proportions: list[int] = MISSING
    search_negative_share: float = MISSING
    chat_path: str | None = MISSING
    chat_ratio: float = MISSING
    validation_size: int = MISSING


@dataclass
class SLConfig:
    """Supervised fine-tuning."""

    trainable: Trainable = MISSING
    lora_rank: int = MISSING
    lora_alpha: int = MISSING
    learning_rate: float = MISSING
    batch_size: int = MISSING
    micro_batch_size: int = MISSING
    epochs: int = MISSING
    max_steps: int | None = MISSING
    warmup_share: float = MISSING
    decay_power: float = MISSING
    gradient_clip: float = MISSING
    validations: int = MISSING


@dataclass
class RLConfig:
    """Proximal policy optimisation (PPO)."""

    iterations: int = MISSING
    prompts: int = MISSING
    samples_per_prompt: int = MISSING
    micro_batch_size: int = MISSING
    item_count_min: int = MISSING
    item_count_max: int = MISSING
    lora_rank: int = MISSING
    lora_alpha: int = MISSING
    learning_rate: float = MISSING
    critic_learning_rate: float = MISSING
    warmup_iterations: int = MISSING
    decay_power: float = MISSING
    gradient_clip: float = MISSING
    temperature: float = MISSING
    ppo_epochs: int = MISSING
    minibatches: int = MISSING
    clip: float = MISSING
    value_clip: float | None = MISSING
    value_coefficient: float = MISSING
    entropy_coefficient: float = MISSING
    kl_coefficient: float = MISSING
    kl_stop: float | None = MISSING
    gamma: float = MISSING
    gae_lambda: float = MISSING
    list_weight: float = MISSING
    whiten_rewards: bool = MISSING


@dataclass
class RewardConfig:
    """Which reading of Equations 1-5 scores an answer (spec section 5)."""

    name: str = MISSING


@dataclass
class VariantConfig:
    """What a table row is: which instructions SL sees, whether RL follows with which rewards, who answers and how."""

    name: str = MISSING
    description: str = MISSING
    answers_with: str = MISSING
    first_users: int | None = MISSING
    instructions: str = MISSING
    tasks: list[str] = MISSING
    rl: bool = MISSING
    item_rewards: bool = MISSING
    prompt_suffix: str | None = MISSING
    beam_search: bool = MISSING
    differs: list[str] = MISSING


@dataclass
class GenerationConfig:
    """Decoding at evaluation time; the engine samples for RL too."""

    name: str = MISSING
    engine: str = MISSING
    batch_size: int = MISSING
    max_new_tokens: int = MISSING


@dataclass
class APIConfig:
    """A server that speaks chat completions; its key comes from the environment and is no part of a configuration."""

    name: str = MISSING
    url: str = MISSING
    model: str = MISSING
    key_variable: str | None = MISSING
    concurrency: int = MISSING
    timeout: float = MISSING
    attempts: int = MISSING
    backoff: float = MISSING
    longest_wait: float = MISSING
    price_prompt: float | None = MISSING
    price_completion: float | None = MISSING


@dataclass
class EvaluationConfig:
    """Which users and settings are asked, and how answers are scored (spec section 7)."""

    settings: list[str] = MISSING
    users: int | None = MISSING
    item_count: int = MISSING
    selection: bool = MISSING
    formatting_item_counts: list[int] = MISSING
    match_max_edits: int = MISSING
    bootstrap_resamples: int = MISSING
    confidence: float = MISSING


@dataclass
class GeneralConfig:
    """General ability: MMLU and GSM8K (Section 3.3); what has no source is not asked."""

    name: str = MISSING
    mmlu: str | None = MISSING
    gsm8k: str | None = MISSING
    mmlu_shots: int = MISSING
    gsm8k_shots: int = MISSING
    limit: int | None = MISSING
    batch_size: int = MISSING


@dataclass
class CasesConfig:
    """Whose answers the case-study page shows (Table 6)."""

    name: str = MISSING
    users: list[str] = MISSING
    count: int = MISSING
    settings: list[str] = MISSING


@dataclass
class TrainerConfig:
    """Hardware; nothing here may change a result beyond floating-point noise."""

    name: str = MISSING
    accelerator: str = MISSING
    devices: int = MISSING
    strategy: str = MISSING
    activation_checkpointing: bool = MISSING
    precision: str = MISSING
    matmul_precision: str = MISSING
    threads: int | None = MISSING
    progress: bool = MISSING
    profile: bool = MISSING


@dataclass
class LoggerConfig:
    """Weights & Biases; CSV is always written."""

    name: str = MISSING
    wandb: str = MISSING
    project: str = MISSING
    entity: str | None = MISSING
    group: str | None = MISSING


@dataclass
class StageConfig:
    """How far to go."""

    name: StageName = MISSING


@dataclass
class BudgetConfig:
    """Which schedule is in force; its file sets the sizes it stands for."""

    name: str = MISSING


@dataclass
class Config:
    """Everything a run is decided by."""

    seed: int = MISSING
    output: str = MISSING
    cache: str = MISSING
    stage: StageConfig = MISSING
    dataset: DatasetConfig = MISSING
    model: ModelConfig = MISSING
    teacher: TeacherConfig = MISSING
    instructions: InstructionsConfig = MISSING
    sl: SLConfig = MISSING
    rl: RLConfig = MISSING
    reward: RewardConfig = MISSING
    variant: VariantConfig = MISSING
    generation: GenerationConfig = MISSING
    api: APIConfig = MISSING
    evaluation: EvaluationConfig = MISSING
    general: GeneralConfig = MISSING
    cases: CasesConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    budget: BudgetConfig = MISSING


# One line per bounded key: (key, smallest, largest); None leaves a side open. Booleans, names and paths need none.
_BOUNDS: tuple[tuple[str, float | None, float | None], ...] = (
    ("seed", 0, 2**31 - 1),
    ("dataset.min_user_interactions", 1, None),
    ("dataset.min_item_interactions", 1, None),
    ("dataset.title_max_tokens", 1, None),
    ("dataset.history_length", 1, 100),
    ("model.max_length", 16, None),
    ("model.max_response_length", 8, None),
    ("model.hidden_size", 8, None),
    ("model.layers", 1, None),
    ("model.heads", 1, None),
    ("model.vocabulary", 300, None),
    ("teacher.embedding", 1, None),
    ("teacher.layers", 1, None),
    ("teacher.heads", 1, None),
    ("teacher.dropout", 0, 0.99),
    ("teacher.learning_rate", 0, None),
    ("teacher.weight_decay", 0, None),
    ("teacher.batch_size", 1, None),
    ("teacher.max_epochs", 1, None),
    ("teacher.patience", 1, None),
    ("instructions.item_count_max", 1, 100),
    ("instructions.candidate_share", 0, 1),
    ("instructions.candidate_count", 1, None),
    ("instructions.search_negative_share", 0, 1),
    ("instructions.chat_ratio", 0, None),
    ("instructions.validation_size", 1, None),
    ("sl.lora_rank", 1, None),
    ("sl.lora_alpha", 1, None),
    ("sl.learning_rate", 0, None),
    ("sl.batch_size", 1, None),
    ("sl.micro_batch_size", 1, None),
    ("sl.epochs", 1, None),
    ("sl.max_steps", 1, None),
    ("sl.warmup_share", 0, 1),
    ("sl.decay_power", 0, None),
    ("sl.gradient_clip", 0, None),
    ("sl.validations", 1, None),
    ("rl.iterations", 1, None),
    ("rl.prompts", 1, None),
    ("rl.samples_per_prompt", 1, None),
    ("rl.micro_batch_size", 1, None),
    ("rl.item_count_min", 1, None),
    ("rl.item_count_max", 1, 100),
    ("rl.lora_rank", 1, None),
    ("rl.lora_alpha", 1, None),
    ("rl.learning_rate", 0, None),
    ("rl.critic_learning_rate", 0, None),
    ("rl.warmup_iterations", 0, None),
    ("rl.decay_power", 0, None),
    ("rl.gradient_clip", 0, None),
    ("rl.temperature", 0.01, 10),
    ("rl.ppo_epochs", 1, None),
    ("rl.minibatches", 1, None),
    ("rl.clip", 0, 1),
    ("rl.value_clip", 0, None),
    ("rl.value_coefficient", 0, None),
    ("rl.entropy_coefficient", 0, None),
    ("rl.kl_coefficient", 0, None),
    ("rl.kl_stop", 0, None),
    ("rl.gamma", 0, 1),
    ("rl.gae_lambda", 0, 1),
    ("rl.list_weight", 0, None),
    ("variant.first_users", 1, None),
    ("generation.batch_size", 1, None),
    ("generation.max_new_tokens", 1, None),
    ("api.concurrency", 1, 256),
    ("api.timeout", 0.01, None),
    ("api.attempts", 1, None),
    ("api.backoff", 0, None),
    ("api.longest_wait", 0, None),
    ("api.price_prompt", 0, None),
    ("api.price_completion", 0, None),
    ("evaluation.users", 1, None),
    ("evaluation.item_count", 1, 100),
    ("evaluation.match_max_edits", 0, None),
    ("evaluation.bootstrap_resamples", 1, None),
    ("evaluation.confidence", 0.5, 0.999),
    ("general.mmlu_shots", 0, None),
    ("general.gsm8k_shots", 0, None),
    ("general.limit", 1, None),
    ("general.batch_size", 1, None),
    ("cases.count", 0, None),
    ("trainer.devices", 1, None),
    ("trainer.threads", 1, None),
)
SHARING_OUT = ("fsdp", "deepspeed")  # strategies that leave a process a part of SL's frozen weights
_SOURCES = Path(__file__).with_name("data") / "sources"  # looked through, not imported: polars takes its time
_CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.source": tuple(sorted({path.stem for path in _SOURCES.glob("[a-z]*.py")} - {"base"})),
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
# Choices that the rooms themselves know, imported when a configuration is checked.
_REGISTRIES = {
    "reward.name": "ctrlrec.rewards.scheme:SCHEMES",
    "evaluation.settings": "ctrlrec.evaluation.settings:SETTINGS",
    "cases.settings": "ctrlrec.evaluation.settings:SETTINGS",
    "variant.tasks": "ctrlrec.instructions.controls:FAMILIES",
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


def known_keys(schema: type = Config, prefix: str = "") -> list[str]:
    """Every dotted key of the schema."""
    keys = []
    for field in fields(schema):
        keys.append(prefix + field.name)
        if is_dataclass(field.type):
            keys += known_keys(field.type, f"{prefix}{field.name}.")  # type: ignore[arg-type]
    return keys


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


def conf_directory() -> Path:
    """The folder of YAML choices: inside the installed package, beside it in a checkout."""
    packaged = Path(str(resources.files("ctrlrec"))) / "conf"
    return packaged if packaged.is_dir() else packaged.parents[1] / "conf"


def compose(*overrides: str) -> Config:
    """The configuration of ``python -m ctrlrec OVERRIDES``, for scripts and notebooks.

    Args:
        overrides: words of the command line, such as ``variant=full``.

    Raises:
        CtrlRecError: see :func:`validate`.
        HydraException: for a choice that does not exist.
    """
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        return validate(hydra.compose("config", list(overrides)))


def validate(composed: DictConfig) -> Config:
    """Merge a composed configuration into the schema, check it, and freeze it.

    Args:
        composed: what Hydra composed, without its own ``hydra`` node.

    Returns:
        A read-only structured configuration; typed as :class:`Config` for readers.

    Raises:
        CtrlRecError: for an unknown key, a wrong type, a value out of range or an impossible pair; the message
            names the key and the nearest valid choice.
    """
    try:
        config = OmegaConf.merge(OmegaConf.structured(Config), composed)
        OmegaConf.resolve(config)
        missing = OmegaConf.missing_keys(config)
    except ConfigKeyError as error:
        raise CtrlRecError(f"unknown key '{error.full_key}': {nearest(str(error.full_key), known_keys())}") from None
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise CtrlRecError(f"{error.full_key}: {reason}") from None
    except OmegaConfBaseException as error:
        raise CtrlRecError(f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}") from None
    if missing:
        raise CtrlRecError(f"no value for {', '.join(sorted(missing))}: choose a group or set key=value")
    _check_secrets(config)  # type: ignore[arg-type]  # first: later messages repeat values
    for key, low, high in _BOUNDS:
        value = OmegaConf.select(config, key)
        if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise CtrlRecError(f"{key}={value}: expected a number {bounds}")
    known: dict[str, Iterable[str]] = {key: _registered(place) for key, place in _REGISTRIES.items()}
    for key, choices in {**_CHOICES, **known, "variant.differs": known_keys()}.items():
        value = OmegaConf.select(config, key)
        for one in value if isinstance(value, ListConfig) else [value]:
            if one not in choices:
                said = f"{key} contains '{one}'" if isinstance(value, ListConfig) else f"{key}={one}"
                raise CtrlRecError(f"{said}: {nearest(str(one), choices)}")
    for key, (low, high) in _LIST_BOUNDS.items():
        values = list(OmegaConf.select(config, key))
        if not values:
            raise CtrlRecError(f"{key} is empty: list at least one whole number between {low} and {high}, such as [11]")
        if wrong := [value for value in values if not low <= value <= high]:
            raise CtrlRecError(f"{key} contains {wrong[0]}: expected whole numbers between {low} and {high}")
    for key in _FOLDERS:
        name = OmegaConf.select(config, key)
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise CtrlRecError(f"{key}={name}: it names folders; expected letters, digits and any of . _ + -")
    settings = list(OmegaConf.select(config, "evaluation.settings"))
    if not settings or len(set(settings)) < len(settings):
        raise CtrlRecError(f"evaluation.settings={settings}: expected at least one setting, and each once")
    _check_pairs(config)  # type: ignore[arg-type]
    OmegaConf.set_readonly(config, True)
    return config  # type: ignore[return-value]


def _registered(place: str) -> Iterable[str]:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


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


def sampling_engine(config: Config) -> str:
    """``generation.engine`` for RL, which samples in its own process: vllm and api answer in evaluation alone."""
    return "auto" if config.generation.engine in ("vllm", "api") else config.generation.engine


def plain(config: Any) -> Any:
    """A configuration node as plain JSON-able containers."""
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)


def typed(section: T) -> T:
    """A section as its plain dataclass, for loops that read it at every sample: OmegaConf takes microseconds a read."""
    return OmegaConf.to_object(section) if OmegaConf.is_config(section) else section  # type: ignore[return-value]
