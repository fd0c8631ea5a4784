"""The stage ``rl``: reinforcement learning."""

from pathlib import Path

from ctrlrec.config.compose import plain
from ctrlrec.config.engines import sampling_engine
from ctrlrec.config.schema import Config
from ctrlrec.config.seeds import seed_of_rl, seeded_for_rl
from ctrlrec.config.split import data_label
from ctrlrec.config.unrecorded import as_before
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.checks import check_backbone
from ctrlrec.pipeline.inputs import cache_folder
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.pipeline.settings import constrained, constraint_label, model_settings, trainer_additions, without
from ctrlrec.pipeline.stage import Inputs, Stage
from ctrlrec.runtime.hardware import precision, settled


def run(config: Config, inputs: Inputs, directory: Path) -> None:
    """Leave the adapters after RL, and every rollout."""
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.rl.train import align
    from ctrlrec.runtime.loggers import loggers

    own = seeded_for_rl(config)
    builder, chat_format = load_builder(own, inputs)
    model = load_policy(
        settled(config),
        cache_folder(config),
        chat_format.tokenizer,
        config.seed,  # of a backbone from scratch, on which SL's adapters rest
        inputs["sl"],
        items=chat_format.items,
    )
    with loggers(config, "rl", directory) as made:
        align(own, model, chat_format, builder, directory, made)


def _check(config: Config) -> None:
    """Refuse a backbone that cannot be loaded, an engine that cannot sample, and a constraint that rules out both."""
    from ctrlrec.generation.engines import ENGINES
    from ctrlrec.rl.algorithms import ALGORITHMS

    check_backbone(config)
    ENGINES[sampling_engine(config)].check(config, cache_folder(config))
    algorithm, constraint = config.rl.algorithm.name, config.constraint.name
    if constrained(config, "rl") and not ALGORITHMS[algorithm].constrained:
        raise CtrlRecError(
            f"constraint.name={constraint} rl.algorithm.name={algorithm}: it samples freely; set rl.constrained=false "
            "or rl/algorithm=grpo"
        )


def _label(config: Config) -> str:
    """Return data set, backbone, algorithm unless it is the paper's, reading of the reward and what is rewarded."""
    algorithm = config.rl.algorithm.name
    named = [] if algorithm == "ppo" else [algorithm]
    rewarded = "item-list" if config.reward.item_weight else "list"
    label = "-".join((data_label(config.dataset), config.model.name, *named, config.reward.name, rewarded))
    return label + constraint_label(config, "rl")


STAGE = Stage(
    "rl",
    lambda _: ("data", "teacher", "instructions", "sl"),
    lambda c: {
        "rl": as_before("rl", without(c.rl, "seed", "micro_batch_size", "micro_tokens", "memory_share", "constrained")),
        "reward": as_before("reward", plain(c.reward)),
        "engine": sampling_engine(c),
        "model": model_settings(c),
        "seed": seed_of_rl(c),  # that of the run stands in the fingerprint of SL
        "precision": precision(c.trainer),
        **trainer_additions(c),
        **constrained(c, "rl"),
    },
    _label,
    run,
    "lower rl.micro_batch_size, on a GPU set rl.micro_tokens below what the log says, or set "
    "trainer.activation_checkpointing=true, which change no result",
    shared=lambda _: True,
    check=_check,
)
