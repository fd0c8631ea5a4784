"""The Lightning module of RL: a training step is one iteration, rollout and inner epochs included."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from peft import PeftModel
from pytorch_lightning.profilers import PassThroughProfiler, Profiler
from torch.nn.utils import clip_grad_norm_, get_total_norm

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import ClipGroups, RLConfig, answers_per_prompt
from ctrlrec.controls.instruction import Instruction
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines import Engine
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import ACTOR, load_trainable_state, trainable_state, using
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards.reward import Reward
from ctrlrec.rl import losses, schedule
from ctrlrec.rl.algorithms import make_algorithm
from ctrlrec.rl.data import Prompts
from ctrlrec.rl.experience import Experience
from ctrlrec.rl.passes import ForwardPasses, value_head
from ctrlrec.rl.rollout import Answer, Rollouts, Sampler, placed_rewards, summary
from ctrlrec.rl.validation import Measured, means_by_kind, measured
from ctrlrec.rl.watch import CollapseWatch
from ctrlrec.runtime import processes
from ctrlrec.runtime.faults import refuse


class RLModule(ForwardPasses):
    """Actor, critic and reference on one frozen base: one adapter on, the other on, both off.

    The algorithm decides whether there is a critic, how rewards become advantages, and what a minibatch loses.
    """

    def __init__(
        self,
        model: PeftModel,
        chat_format: ChatFormat,
        builder: InstructionBuilder,
        reward: Reward,
        config: RLConfig,
        engine: Engine,
        directory: Path,
        constraint: Constraint | None = None,
        guide: Constraint | None = None,
    ):
        super().__init__()
        self.save_hyperparameters({"rl": plain(config), "reward": reward.settings}, logger=False)
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold the trainable tensors alone; on_load_checkpoint compares names
        self.model, self.chat_format, self.seed = model, chat_format, builder.seed
        self.config, self.reward = config, reward
        self.sampler = Sampler(engine, builder.catalogue, builder.ranker, reward, constraint, guide)
        self.rollouts = Rollouts(directory / "rollouts.jsonl", builder.catalogue)
        self.algorithm = make_algorithm(config)
        self.value_head = value_head(model) if self.algorithm.critic else None
        self.temperature = config.temperature
        self.micro_tokens: int | None = config.micro_tokens
        self.watch = CollapseWatch(chat_format.ends, self.rollouts.path)
        self._seconds: dict[str, float] = defaultdict(float)
        self._profiler: Profiler = PassThroughProfiler()
        self._measured: list[Measured] = []

    # ------------------------------------------------------------------ Lightning

    def on_fit_start(self) -> None:
        """Give the phases of a step to the trainer's profiler."""
        self._profiler = self.trainer.profiler  # type: ignore[attr-defined]

    def configure_optimizers(self) -> Any:
        """Return one Adam with a group for the actor and, if there is one, for the critic with its value head."""
        return schedule.optimizers(self.config, dict(self.named_parameters()), self.algorithm.critic)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep adapters and value head alone, and the number of finished iterations."""
        checkpoint["state_dict"] = trainable_state(self)
        checkpoint["iterations"] = self.current_epoch + 1

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load by name and delete rollouts that came after the checkpoint.

        Raises:
            CtrlRecError: for a checkpoint that does not hold its number of iterations.
        """
        if "iterations" not in checkpoint:
            where = self.rollouts.path.parent
            raise CtrlRecError(f"{where}: its checkpoint is of an earlier version; delete the folder and run again")
        load_trainable_state(self, checkpoint["state_dict"])
        if processes.rank() == 0:
            self.rollouts.cut(checkpoint["iterations"])

    def training_step(self, batch: Prompts, batch_idx: int) -> None:
        """Sample, judge, score, learn, log: one iteration."""
        iteration = batch.iteration
        # Every iteration has its own random stream, so a resumed run samples what an undisturbed one would.
        torch.manual_seed(processes.own_seed(self.seed, iteration))
        self.temperature = schedule.temperature(self.config, iteration)
        self._seconds.clear()
        answers = self.collect(batch.instructions)
        free = [answer for answer in answers if answer.kind in ("sampled", "greedy")]
        unended = self.watch(iteration, free)
        experience = self.score(answers)
        learnt = self.learn(experience, actor=iteration >= self.config.critic_ahead)
        self.lr_schedulers().step()  # type: ignore[union-attr,call-arg]
        if processes.rank() == 0:
            self.rollouts.add(iteration, answers, answers_per_prompt(self.config))
        tokens = float(experience.mask.sum())
        metrics = summary(answers, self.reward) | learnt
        metrics["answer/unended"] = unended / len(free)
        metrics |= {f"seconds/{phase}": seconds for phase, seconds in self._seconds.items()}
        metrics["tokens_per_second/rollout"] = tokens / max(self._seconds["rollout"], 1e-9)
        metrics["tokens_per_second/iteration"] = tokens / max(sum(self._seconds.values()), 1e-9)
        self.log_dict(metrics)
        self.log("reward", metrics["reward/total"], prog_bar=True, logger=False)
        self.log("illegal", metrics["illegal/any"], prog_bar=True, logger=False)

    def validation_step(self, batch: list[Instruction], batch_idx: int) -> None:
        """Answer validation questions greedily and measure the answers; processes take turns."""
        if batch_idx % processes.count() == processes.rank():
            with using(self.model, ACTOR):
                answers = self.sampler(self.sampler.engine.prompts(batch), None)
            self._measured += [measured(answer, self.reward) for answer in answers]

    def on_validation_epoch_end(self) -> None:
        """Log the means over all processes; their reward selects the checkpoint."""
        everyones = [row for rows in processes.gather(self._measured) for row in rows]
        self._measured = []
        self.log_dict({f"validation/{name}": value for name, value in means_by_kind(everyones).items()})

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        with self._profiler.profile(f"phase: {name}"):  # which, if it is asked for, waits for the GPU at both ends
            started = time.perf_counter()
            yield
        self._seconds[name] += time.perf_counter() - started

    def collect(self, instructions: Sequence[Instruction]) -> list[Answer]:
        """Return judged and rewarded answers to the prompts of an iteration; processes share the prompts.

        Answers to one prompt lie side by side: the sampled ones, with ``rl.greedy_row`` a greedy one, with
        ``rl.guided_row`` one under that constraint, and with ``rl.corrected_row`` the greedy one corrected.
        """
        with self._phase("prompts"):
            prompts = self.sampler.engine.prompts(processes.share(instructions))
        self.eval()
        samples, each = self.config.samples_per_prompt, answers_per_prompt(self.config)
        with self._phase("rollout"), using(self.model, None if self.algorithm.offline else ACTOR):
            answers: list[Answer] = []
            if prompts:
                guided = self.sampler.guide is not None
                answers = self.sampler(
                    prompts, self.temperature, samples, self.config.greedy_row, guided, self.config.corrected_row
                )
            groups = [answers[begin : begin + each] for begin in range(0, len(answers), each)]
            return [answer for group in processes.joined(groups) for answer in group]

    @torch.no_grad()
    def score(self, answers: list[Answer]) -> Experience:
        """Return an experience with log-probabilities of actor and reference, values and advantages."""
        settings = self.config
        with self._phase("score"):
            experience = Experience(answers, self.chat_format.pad, self.device, self.sampler.constraint)
            everyone = torch.arange(len(answers), device=self.device)
            for rows in experience.micro_batches(everyone, settings.micro_batch_size, tokens=self.micro_tokens):
                experience.log_probs[rows] = self.log_probs(experience, rows)[0]
                experience.reference[rows] = self.log_probs(experience, rows, None)[0]
                if self.algorithm.critic:
                    experience.values[rows] = self.values(experience, rows)
            # Autocast keeps copies of weights that were cast: they must not outlive the weights they were made of.
            torch.clear_autocast_cache()
            processes.add_up(experience.log_probs, experience.reference, experience.values)
            experience.rewards = placed = placed_rewards(answers, self.reward).to(self.device)
            scored = {"reward": placed, "value": experience.values, "log-probability": experience.log_probs}
            for what, numbers in scored.items():
                processes.stop_where(not torch.isfinite(numbers).all(), partial(self._refuse, what, experience))
            rewards = losses.penalised_rewards(
                placed, experience.log_probs, experience.reference, experience.mask, settings.kl_coefficient
            )
            if settings.whiten_rewards:
                # Greedy answers and forced tokens do not set the scale, but rewards do that stand on a forced token.
                counted = experience.drawn.maximum((placed != 0) * experience.drawn_rows)
                rewards = rewards / losses.deviation(rewards, counted) * experience.mask
            self.algorithm.advantages(experience, rewards)
        return experience

    def learn(self, experience: Experience, actor: bool = True) -> dict[str, float]:
        """Run the inner epochs; stop before a step once the policy is ``kl_stop`` away from the one that sampled.

        Every row is forwarded in the mode it was sampled in: dropout would make the first ratio differ from one.

        With ``actor=False`` the critic alone learns. Returns means over the steps by name, for the log.
        """
        settings, optimizer = self.config, self.optimizers()
        drawn, behaviour = experience.drawn, experience.reference if self.algorithm.offline else experience.log_probs
        divergence = losses.kl_estimate(experience.log_probs, experience.reference)
        gap = (behaviour - experience.sampled).abs()
        log: dict[str, list[float]] = defaultdict(list)
        log["kl/reference"] = [float(losses.masked_mean(divergence, drawn))]
        log["policy/decoder_gap"] = [float(losses.masked_mean(gap, drawn))]
        log |= {name: [value] for name, value in self.algorithm.report(experience).items()}
        steps, stopped = 0, False
        units = self.algorithm.learnt(experience).view(-1, self.algorithm.together)
        with self._phase("learn"):
            for _ in range(settings.ppo_epochs):
                order = processes.once(lambda: torch.randperm(len(units))).to(self.device)
                for minibatch in order.chunk(settings.minibatches) if len(units) else ():
                    parts = self._accumulate(experience, units[minibatch].flatten(), actor)
                    if settings.kl_stop is not None and parts.get("kl/policy", 0.0) > settings.kl_stop:
                        stopped = True
                        break
                    parts |= self._step(optimizer, experience, actor)
                    steps += 1
                    for name, value in parts.items():
                        log[name].append(value)
                if stopped:
                    break
        log |= {"policy/steps": [float(steps)], "policy/tokens": [float(experience.mask.sum())]}
        return {name: sum(values) / len(values) for name, values in log.items() if values}

    def _accumulate(self, experience: Experience, minibatch: torch.Tensor, actor: bool = True) -> dict[str, float]:
        """Accumulate the gradient of the loss averaged over all tokens of a minibatch; return what to log."""
        self.optimizers().zero_grad()  # type: ignore[union-attr]
        tokens, drawn = (mask[minibatch].sum().clamp(min=1) for mask in (experience.decided, experience.drawn))
        sums: dict[str, float] = defaultdict(float)
        largest: dict[str, float] = defaultdict(float)
        bad, together = None, self.algorithm.together
        units = len(minibatch) // together
        for rows in experience.micro_batches(minibatch, self.config.micro_batch_size, together, self.micro_tokens):
            for term in self.algorithm.terms(self, experience, rows, actor):
                count = units if term.values.ndim == 1 else tokens
                loss = term.weight * losses.total(term.values, experience.decided[rows]) / count
                if not torch.isfinite(loss):
                    bad = term.name
                    break
                self.manual_backward(loss)
                for name, tensor in term.means.items():
                    over = units if tensor.ndim == 1 else drawn
                    sums[name] += float(losses.total(tensor, experience.drawn[rows]) / over)
                for name, tensor in term.largest.items():
                    largest[name] = max(largest[name], float((tensor * experience.drawn[rows]).max()))
            if bad:
                break
        processes.stop_where(bad is not None, lambda: self._refuse(str(bad), experience))
        parts: dict[str, float] = defaultdict(float)
        for own_sums, own_largest in processes.gather((dict(sums), dict(largest))):  # empty of a process without rows
            for name, value in own_sums.items():
                parts[name] += value
            for name, value in own_largest.items():
                parts[name] = max(parts[name], value)
        return dict(parts)

    def _step(self, optimizer: Any, experience: Experience, actor: bool = True) -> dict[str, float]:
        """Clip the gradients of actor and critic, by their common norm or each by its own, then step."""
        groups = [group for group in optimizer.param_groups if actor or group["name"] != ACTOR]
        everything = [tensor for group in groups for tensor in group["params"]]
        processes.sum_gradients(everything)
        norms = {
            f"gradient/{group['name']}": get_total_norm([one.grad for one in group["params"] if one.grad is not None])
            for group in groups
        }
        joint = self.config.clip_groups == ClipGroups.joint
        parts = [everything] if joint else [group["params"] for group in groups]
        clipped = [clip_grad_norm_(part, self.config.gradient_clip) for part in parts]
        finite = all(bool(torch.isfinite(norm)) for norm in clipped)
        processes.stop_where(not finite, lambda: self._refuse("gradient", experience))
        optimizer.step()
        torch.clear_autocast_cache()  # or later epochs would compute with the weights from before this step
        return {name: float(norm) for name, norm in norms.items()}

    def _refuse(self, what: str, experience: Experience) -> NoReturn:
        """Stop before the step; see :func:`refuse`."""
        tensors = {f"batch/{name}": tensor for name, tensor in experience.tensors().items()}
        weights = {f"weights/{name}": tensor for name, tensor in trainable_state(self).items()}
        advice = "lower rl.learning_rate or rl.critic_learning_rate, or set trainer.precision=32-true"
        refuse(what, advice, self.rollouts.path.parent, tensors | weights)
