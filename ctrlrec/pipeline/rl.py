"""The stage ``rl``: reinforcement learning."""

from pathlib import Path

from ctrlrec.config.compose import plain, sampling_engine
from ctrlrec.config.schema import Config
from ctrlrec.pipeline.loading import cache_folder, load_builder
from ctrlrec.pipeline.settings import constrained, constraint_label, model_settings, without
from ctrlrec.pipeline.stage import Inputs, Stage


def run(config: Config, inputs: Inputs, directory: Path) -> None:
    """Actor and critic after PPO, and every rollout."""
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.rl.train import align
    from ctrlrec.runtime.loggers import loggers

    builder, chat_format = load_builder(config, inputs)
    model = load_policy(config.model, cache_folder(config), chat_format.tokenizer, config.seed, inputs["sl"])
    with loggers(config, "rl", directory) as made:
        align(config, model, chat_format, builder, directory, made)


STAGE = Stage(
    "rl",
    lambda _: ("data", "teacher", "instructions", "sl"),
    lambda c: (
        {
            "rl": without(c.rl, "micro_batch_size"),
            "reward": plain(c.reward),
            "item_rewards": c.variant.item_rewards,
            "engine": sampling_engine(c),
            "model": model_settings(c),
            "seed": c.seed,
            "precision": c.trainer.precision,
        }
        | constrained(c)
    ),
    lambda c: (
        f"{c.dataset.name}-{c.model.name}-{c.reward.name}-{'item-list' if c.variant.item_rewards else 'list'}"
        f"{constraint_label(c)}"
    ),
    run,
    ("rl", "rewards", "controls", "instructions", "generation", "lm"),
    "lower rl.micro_batch_size or set trainer.activation_checkpointing=true, which change no result",
    trains=True,
)
