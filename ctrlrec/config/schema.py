"""The typed schema of every setting.

Defaults live in ``conf/`` only: a field here says its name, type and meaning, never a value.
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any

from omegaconf import MISSING


def bounded(low: float, high: float | None = None) -> Any:
    """Declare a number without a default that lies between two bounds, both included.

    Args:
        low: smallest value.
        high: largest value; None for no bound.
    """
    return field(default=MISSING, metadata={"low": low, "high": high})


def located() -> Any:
    """Declare the path of a file or a folder, in which ``~`` is the home folder."""
    return field(default=MISSING, metadata={"path": True})


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


class Split(StrEnum):
    """The part that is held out for validation and test (``dataset.split``, :mod:`ctrlrec.data.splits`)."""

    last_out = "last_out"
    global_time = "global_time"


class Stale(StrEnum):
    """How to treat a result that other code made (``stale=``)."""

    error = "error"
    reuse = "reuse"
    rebuild = "rebuild"


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
    """Where interactions come from, which of them are kept, and how they are split.

    ``validation_share`` and ``test_share`` are shares of all interactions: those between the two cuts and those after
    the second. ``split: last_out`` does not read them.
    """

    name: str = MISSING
    source: str = MISSING
    path: str | None = located()
    category: str | None = MISSING
    categories: CategoryKind = MISSING
    attributes: list[str] = MISSING
    min_user_interactions: int = bounded(1)
    min_item_interactions: int = bounded(1)
    most_popular: int | None = bounded(1)
    title_max_tokens: int = bounded(1)
    history_length: int = bounded(1, 100)
    split: Split = MISSING
    validation_share: float = bounded(0.0001, 0.9)
    test_share: float = bounded(0.0001, 0.9)


@dataclass
class ModelConfig:
    """The backbone language model and how its weights are adapted in SL."""

    name: str = MISSING
    kind: str = MISSING
    path: str | None = located()
    revision: str | None = MISSING
    dtype: str = MISSING
    attention: str | None = MISSING
    system_prompt: str | None = MISSING
    thinking: bool = MISSING
    template_date: str = MISSING
    max_length: int = bounded(16)
    max_response_length: int = bounded(8)
    hidden_size: int | None = bounded(8)
    layers: int | None = bounded(1)
    heads: int | None = bounded(1)
    vocabulary: int | None = bounded(300)
    initializer_range: float | None = bounded(0.0001, 1)


@dataclass
class IndexingConfig:
    """How an item is spelt (spec section 10)."""

    name: str = MISSING


@dataclass
class TeacherConfig:
    """The sequential recommender that labels, and its training; ``options`` are settings of the model's own."""

    name: str = MISSING
    model: str = MISSING
    embedding: int = bounded(1)
    options: dict[str, Any] = MISSING
    learning_rate: float = bounded(0)
    weight_decay: float = bounded(0)
    batch_size: int = bounded(1)
    max_epochs: int = bounded(1)
    patience: int = bounded(1)


@dataclass
class InstructionsConfig:
    """The instruction set of Table 7."""

    item_count_min: int = bounded(1, 100)
    item_count_max: int = bounded(1, 100)
    search_item_count_max: int | None = bounded(1, 100)
    candidate_share: float = bounded(0, 1)
    candidate_count: int = bounded(1)
    category_sampling: CategorySampling = MISSING
    proportions: list[int] = MISSING
    blend_share: float = bounded(0, 1)
    search_negative_share: float = bounded(0, 1)
    chat_path: str | None = located()
    chat_ratio: float = bounded(0)
    validation_size: int = bounded(1)


@dataclass
class SLConfig:
    """Supervised fine-tuning."""

    trainable: Trainable = MISSING
    lora_rank: int = bounded(1)
    lora_alpha: int = bounded(1)
    learning_rate: float = bounded(0)
    muon_learning_rate: float | None = bounded(0)
    batch_size: int = bounded(1)
    micro_batch_size: int = bounded(1)
    micro_tokens: int | None = bounded(1)
    epochs: int = bounded(1)
    max_steps: int | None = bounded(1)
    warmup_share: float = bounded(0, 1)
    decay_power: float = bounded(0)
    gradient_clip: float = bounded(0)
    validations: int = bounded(1)
    constrained: bool = MISSING
    soft_labels: float | None = bounded(0.001)
    soft_labels_end: float | None = bounded(0.001)
    allowed_weight: float = bounded(0)


class ClipGroups(StrEnum):
    """Whether the gradients of actor and critic are clipped by their common norm or each by its own."""

    joint = "joint"
    apart = "apart"


@dataclass
class AlgorithmConfig:
    """How rewards become advantages and losses (spec section 13); ``options`` are settings of the algorithm's own."""

    name: str = MISSING
    options: dict[str, Any] = MISSING


@dataclass
class RLConfig:
    """Reinforcement learning: what every algorithm reads.

    ``seed`` is that of RL alone: of its prompts, validation questions, adapters and samples; null for the run's.
    """

    seed: int | None = bounded(0, 2**31 - 1)
    algorithm: AlgorithmConfig = MISSING
    iterations: int = bounded(1)
    schedule_iterations: int | None = bounded(1)
    prompts: int = bounded(1)
    samples_per_prompt: int = bounded(1)
    micro_batch_size: int = bounded(1)
    micro_tokens: int | None = bounded(1)
    memory_share: float = bounded(0.01, 1)
    item_count_min: int = bounded(1)
    item_count_max: int = bounded(1, 100)
    lora_rank: int = bounded(1)
    lora_alpha: int = bounded(1)
    learning_rate: float = bounded(0)
    critic_learning_rate: float = bounded(0)
    warmup_iterations: int = bounded(0)
    decay_power: float = bounded(0)
    adam_epsilon: float = bounded(0)
    decay_floor: float = bounded(0, 1)
    critic_decay: bool = MISSING
    critic_ahead: int = bounded(0)
    gradient_clip: float = bounded(0)
    clip_groups: ClipGroups = MISSING
    temperature: float = bounded(0.01, 10)
    temperature_end: float | None = bounded(0.01, 10)
    greedy_row: bool = MISSING
    guided_row: str = MISSING
    corrected_row: bool = MISSING
    validate_every: int | None = bounded(1)
    kl_loss_coefficient: float = bounded(0)
    ppo_epochs: int = bounded(1)
    minibatches: int = bounded(1)
    clip: float = bounded(0, 1)
    value_clip: float | None = bounded(0)
    value_coefficient: float = bounded(0)
    entropy_coefficient: float = bounded(0)
    kl_coefficient: float = bounded(0)
    kl_stop: float | None = bounded(0)
    gamma: float = bounded(0, 1)
    gae_lambda: float = bounded(0, 1)
    whiten_rewards: bool = MISSING
    constrained: bool = MISSING


def answers_per_prompt(rl: RLConfig) -> int:
    """Return the answers to each prompt of an iteration: samples, then the greedy, guided and corrected ones."""
    return rl.samples_per_prompt + rl.greedy_row + (rl.guided_row != "none") + rl.corrected_row


@dataclass
class RewardConfig:
    """Which readings of Equations 1-5 score an answer, and how they are weighted (spec sections 5 and 13).

    ``item`` and ``list`` name modules of ``rewards/schemes``. ``missing_item`` is what each missing item takes from the
    list reward; no equation charges for one.
    """

    name: str = MISSING
    item: str = MISSING
    list: str = MISSING
    item_weight: float = bounded(0)
    list_weight: float = bounded(0)
    preference_share: float = bounded(0, 1)
    additive_at_items: bool = MISSING
    missing_item: float = bounded(0)


@dataclass
class RowConfig:
    """How tables show a row; nothing here changes a result.

    Attributes:
        order: place from the top; rows with one number stand in the order of their names.
        hidden: tables that leave the row out.
        unranked: tables that show the row for comparison and never mark it best.
        own_backbone: whether its paper gives it a backbone other than the table's.
        compared_with: rows that it should be better than.
    """

    order: int = bounded(0)
    hidden: list[str] = MISSING
    unranked: list[str] = MISSING
    own_backbone: bool = MISSING
    compared_with: list[str] = MISSING


@dataclass
class VariantConfig:
    """A row of the tables: the instructions of SL, whether RL follows, who answers and how."""

    name: str = MISSING
    description: str = MISSING
    answers_with: str = MISSING
    first_users: int | None = bounded(1)
    instructions: str = MISSING
    tasks: list[str] = MISSING
    rl: bool = MISSING
    prompt_suffix: str | None = MISSING
    lenient_answers: bool = MISSING
    beam_search: bool = MISSING
    differs: list[str] = MISSING
    table: RowConfig = MISSING


@dataclass
class GenerationConfig:
    """Decoding at evaluation time; the engine samples for RL too."""

    name: str = MISSING
    engine: str = MISSING
    batch_size: int = bounded(1)
    memory_share: float = bounded(0.01, 1)
    max_new_tokens: int = bounded(1)


@dataclass
class ConstraintConfig:
    """The constraint on what a model may write (spec section 11), in every stage that is ``constrained``."""

    name: str = MISSING


@dataclass
class APIConfig:
    """A server that speaks chat completions; its key comes from the environment and is not part of a configuration."""

    name: str = MISSING
    url: str = MISSING
    model: str = MISSING
    key_variable: str | None = MISSING
    concurrency: int = bounded(1, 256)
    timeout: float = bounded(0.01)
    attempts: int = bounded(1)
    backoff: float = bounded(0)
    longest_wait: float = bounded(0)
    price_prompt: float | None = bounded(0)
    price_completion: float | None = bounded(0)


@dataclass
class EvaluationConfig:
    """Which users and settings are asked, and how answers are scored (spec section 7)."""

    settings: list[str] = MISSING
    users: int | None = bounded(1)
    item_count: int = bounded(1, 100)
    selection: bool = MISSING
    formatting_item_counts: list[int] = MISSING
    match_max_edits: int = bounded(0)
    constrained: bool = MISSING
    bootstrap_resamples: int = bounded(1)
    confidence: float = bounded(0.5, 0.999)


@dataclass
class GeneralConfig:
    """General ability: MMLU and GSM8K (Section 3.3); what has no source is not asked."""

    name: str = MISSING
    mmlu: str | None = located()
    gsm8k: str | None = located()
    mmlu_shots: int = bounded(0)
    gsm8k_shots: int = bounded(0)
    limit: int | None = bounded(1)
    batch_size: int = bounded(1)


@dataclass
class CasesConfig:
    """The users whose answers the case study shows (Table 6)."""

    name: str = MISSING
    users: list[str] = MISSING
    count: int = bounded(0)
    settings: list[str] = MISSING


@dataclass
class TrainerConfig:
    """Hardware; nothing here may change a result beyond floating-point noise.

    Except for callbacks (options by name, see ctrlrec/runtime/callbacks) and extra, further arguments of Lightning's
    Trainer: those are part of what determines a result.
    """

    name: str = MISSING
    accelerator: str = MISSING
    devices: int = bounded(1)
    strategy: str = MISSING
    activation_checkpointing: bool = MISSING
    chunked_head: bool | None = MISSING
    compile: bool = MISSING
    precision: str = MISSING
    matmul_precision: str = MISSING
    threads: int | None = bounded(1)
    workers: int = bounded(0, 64)
    progress: bool = MISSING
    profile: bool = MISSING
    checkpoint_every: int = bounded(1)
    callbacks: dict[str, dict[str, Any]] = MISSING
    extra: dict[str, Any] = MISSING


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
    """Which schedule is in force.

    Attributes:
        name: of the file.
        sets: exactly the keys of other groups that the file sets; it wins over their files there and nowhere else.
        following: command that a run shows as what to try next; null for none.
    """

    name: str = MISSING
    following: str | None = MISSING
    sets: list[str] = MISSING


@dataclass
class Config:
    """Everything a run is decided by."""

    seed: int = bounded(0, 2**31 - 1)
    output: str = located()
    cache: str = MISSING
    stale: Stale = MISSING
    stage: StageConfig = MISSING
    dataset: DatasetConfig = MISSING
    model: ModelConfig = MISSING
    indexing: IndexingConfig = MISSING
    teacher: TeacherConfig = MISSING
    instructions: InstructionsConfig = MISSING
    sl: SLConfig = MISSING
    rl: RLConfig = MISSING
    reward: RewardConfig = MISSING
    variant: VariantConfig = MISSING
    generation: GenerationConfig = MISSING
    constraint: ConstraintConfig = MISSING
    api: APIConfig = MISSING
    evaluation: EvaluationConfig = MISSING
    general: GeneralConfig = MISSING
    cases: CasesConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    budget: BudgetConfig = MISSING


def leaves(schema: type = Config, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Yield every dotted key of the schema with its field, sections included."""
    for entry in fields(schema):
        yield prefix + entry.name, entry
        if is_dataclass(entry.type):
            yield from leaves(entry.type, f"{prefix}{entry.name}.")  # type: ignore[arg-type]


def known_keys() -> list[str]:
    """Return every dotted key of the schema."""
    return [key for key, _ in leaves()]
