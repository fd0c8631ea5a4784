"""Checks of combinations whose parts are valid alone."""

from urllib.parse import urlsplit

from ctrlrec.config.constraint import check_constraint
from ctrlrec.config.schema import Config, RLConfig, Split, StageName, Trainable, answers_per_prompt
from ctrlrec.errors import CtrlRecError


def check_pairs(config: Config) -> None:
    """Refuse combinations whose parts are valid alone.

    Raises:
        CtrlRecError: naming both keys and what to change.
    """
    variant, stage = config.variant, config.stage.name
    held_out = config.dataset.validation_share + config.dataset.test_share
    if config.dataset.split == Split.global_time and held_out >= 1:
        raise CtrlRecError(
            f"dataset.validation_share={config.dataset.validation_share} dataset.test_share={config.dataset.test_share}"
            ": together they leave nothing to train on; expected a sum below 1"
        )
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
    if config.trainer.compile and variant.tasks and config.model.kind == "encoder_decoder":
        raise CtrlRecError(
            f"trainer.compile=true model={config.model.name}: its dropout would draw other numbers; use "
            "trainer.compile=false"
        )
    check_constraint(config)
    _check_items(config)
    asked = config.instructions
    if asked.item_count_min > asked.item_count_max:
        raise CtrlRecError(
            f"instructions.item_count_min={asked.item_count_min} is larger than instructions.item_count_max="
            f"{asked.item_count_max}"
        )
    if asked.search_item_count_max is not None and asked.search_item_count_max < asked.item_count_min:
        raise CtrlRecError(
            f"instructions.search_item_count_max={asked.search_item_count_max} is smaller than "
            f"instructions.item_count_min={asked.item_count_min}; raise it, or leave it null"
        )
    if not _is_address(config.api.url):
        raise CtrlRecError(
            "api.url: expected http(s)://host[:port]/path without a user, a password or a query; a key belongs into "
            "the environment variable that api.key_variable names"
        )
    if config.model.max_response_length >= config.model.max_length:
        raise CtrlRecError("model.max_response_length must leave room for a prompt: it is not below model.max_length")
    mini = config.model.kind == "llama_mini"
    for key in ("hidden_size", "layers", "heads", "vocabulary", "initializer_range"):
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


def _check_items(config: Config) -> None:
    """Refuse settings of items and soft labels whose parts are valid alone.

    Raises:
        CtrlRecError: naming the keys and what to change.
    """
    sl, indexing = config.sl, config.indexing.name
    tokens = indexing == "item_token"
    if tokens and config.model.kind == "encoder_decoder":
        raise CtrlRecError(
            f"indexing.name={indexing} model={config.model.name}: tokens of items need a causal language model; use "
            "indexing=title"
        )
    if tokens and config.variant.rl and config.rl.algorithm.name == "trl_grpo":
        raise CtrlRecError(
            f"indexing.name={indexing} rl.algorithm.name=trl_grpo: TRL reads answers with the backbone's tokenizer, "
            "which lacks the tokens of items; use indexing=title, or rl/algorithm=grpo"
        )
    soft = {"sl.soft_labels": sl.soft_labels, "sl.allowed_weight": sl.allowed_weight}
    if (asked := [f"{key}={value}" for key, value in soft.items() if value]) and not tokens:
        raise CtrlRecError(
            f"{' '.join(asked)} indexing.name={indexing}: a place of a list has a distribution over items only if an "
            "item is one token; add indexing=item_token"
        )
    if sl.allowed_weight and sl.soft_labels is None:
        raise CtrlRecError(
            f"sl.allowed_weight={sl.allowed_weight} sl.soft_labels=null: the allowed items are those of soft labels; "
            "set sl.soft_labels to a temperature, such as 0.5, or sl.allowed_weight=0"
        )
    if sl.soft_labels_end is not None and sl.soft_labels is None:
        raise CtrlRecError(
            f"sl.soft_labels_end={sl.soft_labels_end} sl.soft_labels=null: there is no temperature to start from; set "
            "sl.soft_labels, such as 0.3, or sl.soft_labels_end=null"
        )
    if sl.soft_labels is not None and sl.constrained and config.constraint.name != "none":
        raise CtrlRecError(
            f"sl.soft_labels={sl.soft_labels} sl.constrained=true: soft labels learn what is allowed by "
            "sl.allowed_weight, on all tokens; set one of the two to null or false"
        )
    if sl.soft_labels is not None and config.variant.tasks and config.variant.instructions != "paper":
        raise CtrlRecError(
            f"sl.soft_labels={sl.soft_labels} variant={config.variant.name}: its labels are not the teacher's; set "
            "sl.soft_labels=null and sl.allowed_weight=0"
        )


def check_rl(rl: RLConfig) -> None:
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
    rollouts = rl.prompts * answers_per_prompt(rl)
    if rollouts % rl.minibatches:
        raise CtrlRecError(
            f"rl.minibatches={rl.minibatches} does not divide the {rollouts} answers of an iteration: set a divisor, "
            f"such as {next(n for n in range(rl.minibatches, 0, -1) if rollouts % n == 0)}, "
            "of rl.prompts times the answers to a prompt, those of rl.greedy_row, rl.guided_row and rl.corrected_row "
            "included"
        )
    if rl.corrected_row and not rl.greedy_row:
        raise CtrlRecError(
            "rl.corrected_row=true rl.greedy_row=false: it is the greedy answer that is corrected; set "
            "rl.greedy_row=true"
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
        port = address.port  # reports what is not a number
    except ValueError:
        return False
    known = address.scheme in ("http", "https") and address.hostname and port != 0
    return bool(known) and not address.username and not address.query
