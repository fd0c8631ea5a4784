"""TRL's GRPOTrainer on our prompts and rewards: the outside reference for ``grpo`` (spec section 13); no critic.

TRL samples, scores, compares and learns; prompts and their order, rewards, rates and files are ours. The KL penalty is
a term of TRL's loss, ``rl.kl_coefficient`` times its estimate per token; our algorithms put it into the reward. TRL
neither whitens rewards nor stops at a divergence: ``rl.whiten_rewards`` and ``rl.kl_stop`` are not read.
"""

import json
import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save

from ctrlrec.config.schema import RLConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.adapters import load_trainable_state, lora, trainable_state, with_actor_and_critic
from ctrlrec.rl import schedule
from ctrlrec.rl.algorithms.base import Outset, Outside
from ctrlrec.rl.outside import KeptReward, Prompted, tokenizer_of
from ctrlrec.rl.validation import means_by_kind, measured
from ctrlrec.runtime import processes
from ctrlrec.runtime.files import write_bytes, write_text
from ctrlrec.runtime.hardware import autocast, device, precision
from ctrlrec.runtime.optimizers import fused
from ctrlrec.runtime.results import read_json

log = logging.getLogger(__name__)

_TRL = "default"  # PEFT's name for the adapter that TRL adds
# Names of what TRL logs at a step: theirs and ours.
_NAMES = {
    "loss": "loss/policy",
    "kl": "kl/reference",
    "entropy": "policy/entropy",
    "clip_ratio/region_mean": "policy/clipped",
    "grad_norm": "gradient/actor",
    "learning_rate": "rate/actor",
    "step_time": "seconds/step",
}


class TRLGRPO(Outside):
    """Group relative policy optimisation as TRL has it: outcome rewards, standardised among the answers to a prompt."""

    grouped = True
    constrained = False
    kl_loss = False

    @classmethod
    def check(cls, config: RLConfig) -> None:
        """Refuse what TRL does not do."""
        super().check(config)
        name = f"rl.algorithm.name={config.algorithm.name}"
        if config.temperature_end is not None:
            raise CtrlRecError(
                f"rl.temperature_end={config.temperature_end} {name}: TRL samples at one temperature; set "
                "rl.temperature_end=null"
            )
        if config.micro_tokens is not None:
            raise CtrlRecError(
                f"rl.micro_tokens={config.micro_tokens} {name}: TRL's passes hold a fixed number of answers; set "
                "rl.micro_tokens=null and rl.micro_batch_size to that number"
            )
        if processes.count() > 1:
            raise CtrlRecError(f"{name}: it trains in one process; start one")

    @classmethod
    def train(cls, outset: Outset) -> PeftModel:
        """Train with TRL; see :meth:`Outside.train`."""
        if outset.config.rl.kl_stop is not None or outset.config.rl.whiten_rewards:
            log.info("%-12s TRL neither stops at rl.kl_stop nor whitens rewards (rl.whiten_rewards)", "rl")
        states = random.getstate(), np.random.get_state()  # TRL seeds every generator there is
        try:
            with torch.random.fork_rng():
                return _Training(outset).run()
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


class _Training:
    """One run of TRL's trainer over the iterations of RL."""

    def __init__(self, outset: Outset):
        self.outset, self.config = outset, outset.config.rl
        self.prompts = Prompted(outset)
        self.reward = KeptReward(outset, self.prompts)
        self.checkpoints = outset.directory / "checkpoints"
        self.steps = self.config.minibatches * self.config.ppo_epochs  # of the optimiser, in an iteration
        self.model: Any = None

    def run(self) -> PeftModel:
        """Train from the last checkpoint, or from the start if there is none."""
        from transformers import PrinterCallback, ProgressCallback
        from trl import GRPOTrainer

        last = self._last_checkpoint()
        if last is None:
            self.reward.rollouts.path.unlink(missing_ok=True)  # rows of an attempt that never reached a checkpoint
        else:
            self.reward.rollouts.cut(_step(last) // self.steps)
        model = self.outset.model
        model.generation_config.eos_token_id = sorted(self.outset.sampler.chat_format.ends)  # type: ignore[union-attr]
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=self.reward,
            args=self._arguments(),
            train_dataset=self.prompts.dataset(),
            processing_class=tokenizer_of(self.outset.sampler.chat_format),
            peft_config=lora(self.config.lora_rank, self.config.lora_alpha),
            callbacks=[_callback(self)],
        )
        for shown in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(shown)
        self.model = trainer.model
        learnt = [tensor for tensor in self.model.parameters() if tensor.requires_grad]
        trainer.optimizer = torch.optim.Adam(
            learnt, lr=self.config.learning_rate, eps=self.config.adam_epsilon, fused=fused(learnt)
        )
        trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            trainer.optimizer, lambda step: schedule.actor_rate(self.config, step // self.steps)
        )
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        return self._actor()

    def _last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that is whole: its state is the last file that is written."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=_step, reverse=True)
        return next((folder for folder in found if read_json(folder / "trainer_state.json", None)), None)

    def _arguments(self) -> Any:
        """Return our settings in TRL's words."""
        from trl import GRPOConfig

        config, trainer = self.config, self.outset.config.trainer
        answers = config.prompts * config.samples_per_prompt
        minibatch = answers // config.minibatches
        micro = max(size for size in range(1, config.micro_batch_size + 1) if minibatch % size == 0)
        return GRPOConfig(
            output_dir=str(self.checkpoints),
            max_steps=config.iterations * self.steps,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=minibatch // micro,
            steps_per_generation=answers // micro,
            num_generations=config.samples_per_prompt,
            num_iterations=config.ppo_epochs,
            max_completion_length=self.outset.config.model.max_response_length,
            shuffle_dataset=False,
            temperature=config.temperature,
            top_p=1.0,
            top_k=0,
            beta=config.kl_coefficient,
            epsilon=config.clip,
            entropy_coef=config.entropy_coefficient,
            loss_type="dapo",  # a mean over the tokens of all answers, as our algorithms have it
            scale_rewards="group",
            disable_dropout=True,
            max_grad_norm=config.gradient_clip,
            bf16=precision(trainer) == "bf16-mixed",
            gradient_checkpointing=False,  # ours is in force: trainer.activation_checkpointing
            use_cpu=device(trainer).type == "cpu",
            dataloader_pin_memory=device(trainer).type != "cpu",
            seed=self.outset.config.seed,
            logging_steps=self.steps,
            logging_nan_inf_filter=False,
            save_strategy="steps",
            save_steps=self.steps,
            save_total_limit=1,
            report_to="none",
            disable_tqdm=True,
        )

    def log(self, iteration: int, logs: dict[str, Any]) -> None:
        """Log an iteration under the names that our algorithms have, what only TRL has under ``trl/``.

        Raises:
            CtrlRecError: for a loss or a gradient that is not finite, before a checkpoint is written.
        """
        for what, name in (("loss", "loss"), ("gradient", "grad_norm")):
            if not math.isfinite(logs.get(name, 0.0)):
                raise CtrlRecError(
                    f"the {what} of iteration {iteration} is not finite: lower rl.learning_rate, or set "
                    "trainer.precision=32-true"
                )
        numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        metrics = self.reward.metrics | {_NAMES.get(name, f"trl/{name}"): value for name, value in numbers.items()}
        for logger in self.outset.loggers:
            logger.log_metrics(metrics, iteration)

    @torch.no_grad()
    def validate(self, iteration: int) -> None:
        """Measure greedy answers to validation questions, log them, and keep the best adapter."""
        sampler, questions = self.outset.sampler, self.outset.builder.validation_questions()
        size, rows = self.outset.config.generation.batch_size, []
        training = self.model.training
        self.model.eval()
        for begin in range(0, len(questions), size):
            batch = questions[begin : begin + size]
            with autocast(self.outset.config.trainer):
                answers = sampler(sampler.engine.prompts(batch), None)
            rows += [measured(answer, sampler.reward) for answer in answers]
        self.model.train(training)
        means = means_by_kind(rows)
        for logger in self.outset.loggers:
            logger.log_metrics({f"validation/{name}": value for name, value in means.items()}, iteration)
        best = self.checkpoints / "best.json"
        if not best.exists() or means["reward"] > json.loads(best.read_text())["reward"]:
            write_bytes(self._best(), save({name: part.contiguous() for name, part in self._state().items()}))
            write_text(best, json.dumps({"iteration": iteration, "reward": means["reward"]}))

    def _best(self) -> Path:
        return self.checkpoints / "best.safetensors"

    def _state(self) -> dict[str, torch.Tensor]:
        return {name: tensor.cpu() for name, tensor in trainable_state(self.model).items()}

    def _actor(self) -> PeftModel:
        """Return the plain model with what was learnt as the adapter ``actor``."""
        state = self._state() if self.config.validate_every is None else load_file(self._best())
        actor = with_actor_and_critic(
            self.model.unload().cpu(), self.config.lora_rank, self.config.lora_alpha, critic=False
        )
        load_trainable_state(actor, {name.replace(f".{_TRL}.", ".actor."): part for name, part in state.items()})
        return actor


def _step(checkpoint: Path) -> int:
    """Return the number of the step after which TRL wrote a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def _callback(training: _Training) -> Any:
    """Return what tells a training of each finished iteration."""
    from transformers import TrainerCallback

    class Told(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            iterations, rest = divmod(state.global_step, training.steps)
            every = training.config.validate_every
            if every is not None and not rest and iterations % every == 0:
                training.validate(iterations - 1)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            if "train_runtime" not in logs:  # of an iteration, and not of the whole
                training.log(state.global_step // training.steps - 1, logs)

    return Told()


ALGORITHM = TRLGRPO
