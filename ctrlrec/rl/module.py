"""The Lightning module of RL: one training step is one PPO iteration, rollout and inner epochs included."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from peft import PeftModel
from pytorch_lightning.profilers import PassThroughProfiler, Profiler
from torch.utils.data import DataLoader

from ctrlrec.config.schema import RLConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint, Support, support
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import ACTOR, CRITIC, load_trainable_state, trainable_state, using
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.kernels import entropy_from_logits, selective_log_softmax
from ctrlrec.lm.scoring import hidden_states, logits, pad
from ctrlrec.rewards.schemes import RewardScheme
from ctrlrec.rl import losses as ppo
from ctrlrec.rl.rollout import Answer, placed_rewards, sample_answers, summary
from ctrlrec.runtime import processes
from ctrlrec.runtime.faults import refuse
from ctrlrec.runtime.files import json_line, write_jsonl
from ctrlrec.sl.module import polynomial_decay

log = logging.getLogger(__name__)

_COLLAPSED = 5  # iterations of nothing but empty answers


class Experience:
    """The tensors of one iteration; rows are answers, columns generated tokens.

    Attributes:
        ids: (B, L) prompts with their answers right behind, padded on the right.
        attention: (B, L) 1 on real tokens; ``lengths`` (B,) counts them.
        before: (B, T) place in ``ids`` of the token before each generated one, which predicts it.
        actions: (B, T) generated ids.
        mask: (B, T) 1 on generated tokens.
        decided: (B, T) 1 on generated tokens that were not the only ones allowed; the others teach nothing.
        support: what was allowed at each token; None for everything.
        sampled: (B, T) log-probabilities as the decoder computed them.
        log_probs: (B, T) of the policy that sampled; likewise ``values``, ``advantages`` and ``returns``.
    """

    def __init__(self, answers: list[Answer], padding: int, device: torch.device, support: Support | None = None):
        ids, attention = pad([answer.prompt + answer.tokens for answer in answers], padding)
        actions, mask = pad([answer.tokens for answer in answers], padding)
        starts = torch.tensor([len(answer.prompt) for answer in answers])
        self.ids, self.attention, self.lengths = ids.to(device), attention.to(device), attention.sum(1).to(device)
        self.before = (starts[:, None] - 1 + torch.arange(mask.shape[1])).to(device)
        self.actions, self.mask = actions.to(device), mask.float().to(device)
        self.support = support
        self.decided = self.mask if support is None else self.mask * ~support.forced.to(device)
        sampled = torch.tensor([value for answer in answers for value in answer.log_probs], device=device)
        self.sampled = torch.zeros_like(self.mask).masked_scatter(self.mask.bool(), sampled)
        self.log_probs, self.reference, self.values, self.advantages, self.returns = torch.zeros(
            5, *self.mask.shape, device=device
        )

    def micro_batches(self, rows: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
        """Row numbers in groups of similar length, so that hardly anything is padded; this process's share of them."""
        mine = processes.share(rows[self.lengths[rows].argsort(stable=True)])
        return mine.split(size) if len(mine) else ()


class PPOModule(pl.LightningModule):
    """Actor, critic and reference on one frozen base (design: adapters on, adapters on, adapters off)."""

    def __init__(
        self,
        model: PeftModel,
        chat_format: ChatFormat,
        builder: InstructionBuilder,
        scheme: RewardScheme,
        config: RLConfig,
        item_rewards: bool,
        max_new_tokens: int,
        engine: str,
        directory: Path,
        constraint: Constraint | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold the trainable tensors alone; on_load_checkpoint compares names
        self.model, self.chat_format, self.builder = model, chat_format, builder
        self.scheme, self.config, self.item_rewards = scheme, config, item_rewards
        self.max_new_tokens, self.engine, self.constraint = max_new_tokens, engine, constraint
        self.rollouts = directory / "rollouts.jsonl"
        width = int(model.get_base_model().config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.value_head = torch.nn.Linear(width, 1)
        torch.nn.init.normal_(self.value_head.weight, std=1 / (width + 1))
        torch.nn.init.zeros_(self.value_head.bias)
        self._seconds: dict[str, float] = defaultdict(float)
        self._profiler: Profiler = PassThroughProfiler()
        self._degenerate, self._all_empty = False, 0

    # ------------------------------------------------------------------ Lightning

    def on_fit_start(self) -> None:
        """Tell the trainer's profiler what a step consists of."""
        self._profiler = self.trainer.profiler  # type: ignore[attr-defined]

    def train_dataloader(self) -> DataLoader:
        """The number of the next iteration: a Lightning epoch, with its checkpoint, is one iteration."""
        return DataLoader([self.current_epoch], batch_size=None, num_workers=0)  # type: ignore[arg-type]

    def configure_optimizers(self) -> Any:
        """One Adam, two groups: the actor; the critic with its value head."""
        named = dict(self.named_parameters())
        actor = [tensor for name, tensor in named.items() if f".{ACTOR}." in name]
        critic = [tensor for name, tensor in named.items() if f".{CRITIC}." in name or name.startswith("value_head")]
        optimizer = torch.optim.Adam(
            [
                {"params": actor, "lr": self.config.learning_rate},
                {"params": critic, "lr": self.config.critic_learning_rate},
            ]
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: polynomial_decay(
                step, self.config.iterations, self.config.warmup_iterations, self.config.decay_power
            ),
        )
        return [optimizer], [scheduler]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep adapters and value head alone, and how many iterations they have behind them."""
        checkpoint["state_dict"] = trainable_state(self)
        checkpoint["iterations"] = self.current_epoch + 1

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load by name and forget rollouts that came after the checkpoint.

        Raises:
            CtrlRecError: for a checkpoint that does not say how many iterations it stands for.
        """
        if "iterations" not in checkpoint:
            folder = self.rollouts.parent
            raise CtrlRecError(f"{folder}: its checkpoint is of an earlier version; delete the folder and run again")
        load_trainable_state(self, checkpoint["state_dict"])
        if processes.rank() == 0 and self.rollouts.exists():
            rows = _whole_rows(self.rollouts)
            write_jsonl(self.rollouts, [row for row in rows if row["iteration"] < checkpoint["iterations"]])

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Sample, judge, score, learn, log: one iteration."""
        iteration = int(batch)
        # Every iteration has its own random stream, so a resumed run samples what an undisturbed one would.
        torch.manual_seed(processes.own_seed(self.builder.seed, iteration))
        self._seconds.clear()
        answers = self.collect(iteration)
        unended = self._watch(iteration, answers)
        experience = self.score(answers)
        learnt = self.learn(experience)
        self.lr_schedulers().step()  # type: ignore[union-attr,call-arg]
        if processes.rank() == 0:
            with self.rollouts.open("a", encoding="utf-8") as file:
                for sample, answer in enumerate(answers):
                    row = answer.record(iteration, sample % self.config.samples_per_prompt, self.builder.catalogue)
                    file.write(json_line(row))
        tokens = float(experience.mask.sum())
        metrics = summary(answers, self.config.list_weight) | learnt
        metrics["answer/unended"] = unended / len(answers)
        metrics |= {f"seconds/{phase}": seconds for phase, seconds in self._seconds.items()}
        metrics["tokens_per_second/rollout"] = tokens / max(self._seconds["rollout"], 1e-9)
        metrics["tokens_per_second/iteration"] = tokens / max(sum(self._seconds.values()), 1e-9)
        self.log_dict(metrics)
        self.log("reward", metrics["reward/total"], prog_bar=True, logger=False)
        self.log("illegal", metrics["illegal/any"], prog_bar=True, logger=False)

    # ------------------------------------------------------------------ phases

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        with self._profiler.profile(f"phase: {name}"):
            yield
        self._seconds[name] += time.perf_counter() - started

    def collect(self, iteration: int) -> list[Answer]:
        """Prompts of this iteration and sampled, judged, rewarded answers to them; processes share the prompts."""
        with self._phase("prompts"):
            instructions = self.builder.rollout_prompts(
                iteration, self.config.prompts, (self.config.item_count_min, self.config.item_count_max)
            )
            mine = processes.share(instructions)
            prompts = self.chat_format.prompts([instruction.messages for instruction in mine])
        self.eval()
        samples = self.config.samples_per_prompt
        with self._phase("rollout"), using(self.model, ACTOR):
            answers: list[Answer] = []
            if mine:
                answers = sample_answers(
                    self.model,
                    self.chat_format,
                    mine,
                    prompts,
                    samples,
                    self.builder.catalogue,
                    self.builder.ranker,
                    self.scheme,
                    self.max_new_tokens,
                    self.config.temperature,
                    self.engine,
                    self.constraint,
                )
            shares = processes.gather(answers)
            return [
                answer
                for place in range(len(instructions))
                for answer in shares[place % len(shares)][place // len(shares) * samples :][:samples]
            ]

    def _watch(self, iteration: int, answers: list[Answer]) -> int:
        """The number of answers without an end; says so where most are empty or endless.

        Raises:
            CtrlRecError: where every answer of the last iterations is empty: there is nothing left to learn from.
        """
        empty = sum(not answer.titles for answer in answers)
        unended = sum(answer.tokens[-1] not in self.chat_format.ends for answer in answers)
        degenerate = 2 * max(empty, unended) > len(answers)
        if degenerate and not self._degenerate:
            log.warning(
                "%-12s iteration %d: of %d answers %d are empty and %d have no end", "rl", iteration, len(answers),
                empty, unended,
            )  # fmt: skip
        self._degenerate = degenerate
        self._all_empty = self._all_empty + 1 if empty == len(answers) else 0
        if self._all_empty == _COLLAPSED:
            raise CtrlRecError(
                f"the policy has collapsed: all {len(answers)} answers of each of the last {_COLLAPSED} iterations are "
                f"empty; lower rl.learning_rate or raise rl.kl_coefficient, and see {self.rollouts}"
            )
        return unended

    @torch.no_grad()
    def score(self, answers: list[Answer]) -> Experience:
        """Log-probabilities of actor and reference, values, penalised rewards, advantages."""
        settings = self.config
        with self._phase("score"):
            instructions = [answer.judgement.instruction for answer in answers]
            allowed = support(self.constraint, instructions, [answer.tokens for answer in answers])
            experience = Experience(answers, self.chat_format.pad, self.device, allowed)
            everyone = torch.arange(len(answers), device=self.device)
            for rows in experience.micro_batches(everyone, settings.micro_batch_size):
                experience.log_probs[rows] = self._log_probs(experience, rows, ACTOR)[0]
                experience.reference[rows] = self._log_probs(experience, rows, None)[0]
                experience.values[rows] = self._values(experience, rows)
            processes.add_up(experience.log_probs, experience.reference, experience.values)
            placed = placed_rewards(answers, self.item_rewards, settings.list_weight).to(self.device)
            scored = {"reward": placed, "value": experience.values, "log-probability": experience.log_probs}
            for what, numbers in scored.items():
                bad = not bool(torch.isfinite(numbers).all())
                processes.stop_where(bad, partial(self._refuse, what, experience))
            rewards = ppo.penalised_rewards(
                placed, experience.log_probs, experience.reference, experience.mask, settings.kl_coefficient
            )
            if settings.whiten_rewards:
                # A reward may stand on a forced token, as that of a list on its end.
                counted = experience.decided.maximum((placed != 0).float())
                rewards = ppo.whiten(rewards, counted, shift_mean=False)
            advantages, experience.returns = ppo.advantages_and_returns(
                rewards, experience.values, experience.mask, settings.gamma, settings.gae_lambda
            )
            experience.advantages = ppo.whiten(advantages, experience.decided, shift_mean=True)
        return experience

    def learn(self, experience: Experience) -> dict[str, float]:
        """The inner epochs; stops before a step once the policy is ``kl_stop`` away from the one that sampled.

        Every row is forwarded in the mode it was sampled in: dropout would make the first ratio differ from one.
        """
        settings = self.config
        optimizer = self.optimizers()
        rows = len(experience.mask)
        tokens = experience.mask.sum()
        log: dict[str, list[float]] = defaultdict(list)
        log["kl/reference"] = [
            float(ppo.masked_mean(ppo.kl_estimate(experience.log_probs, experience.reference), experience.decided))
        ]
        log["policy/decoder_gap"] = [
            float(ppo.masked_mean((experience.log_probs - experience.sampled).abs(), experience.decided))
        ]
        log["value/explained_variance"] = [
            float(ppo.explained_variance(experience.values, experience.returns, experience.decided))
        ]
        stopped = False
        with self._phase("learn"):
            for _ in range(settings.ppo_epochs):
                order = processes.once(lambda: torch.randperm(rows)).to(self.device)
                for minibatch in order.chunk(settings.minibatches):
                    parts = self._accumulate(experience, minibatch)
                    if settings.kl_stop is not None and parts["kl/policy"] > settings.kl_stop:
                        stopped = True
                        break
                    parts |= self._step(optimizer, experience)
                    for name, value in parts.items():
                        log[name].append(value)
                if stopped:
                    break
        log["policy/steps"] = [float(len(log["loss/policy"]))]
        log["policy/tokens"] = [float(tokens)]
        return {name: sum(values) / len(values) for name, values in log.items() if values}

    def _accumulate(self, experience: Experience, minibatch: torch.Tensor) -> dict[str, float]:
        """Gradient of the loss averaged over all tokens of a minibatch, in micro-batches."""
        settings = self.config
        self.optimizers().zero_grad()  # type: ignore[union-attr]
        tokens = experience.decided[minibatch].sum().clamp(min=1)
        sums: dict[str, float] = defaultdict(float)
        largest = 0.0
        bad = None
        for rows in experience.micro_batches(minibatch, settings.micro_batch_size):
            mask = experience.decided[rows]
            log_probs, entropy = self._log_probs(experience, rows, ACTOR)
            policy, ratio, clipped = ppo.policy_loss(
                log_probs, experience.log_probs[rows], experience.advantages[rows], settings.clip
            )
            actor_loss = ((policy - settings.entropy_coefficient * entropy) * mask).sum() / tokens
            if not torch.isfinite(actor_loss):
                bad = "policy loss"
                break
            self.manual_backward(actor_loss)
            values = self._values(experience, rows)
            error, value_clipped = ppo.value_loss(
                values, experience.values[rows], experience.returns[rows], settings.value_clip
            )
            critic_loss = settings.value_coefficient * (error * mask).sum() / tokens
            if not torch.isfinite(critic_loss):
                bad = "value loss"
                break
            self.manual_backward(critic_loss)
            with torch.no_grad():
                kl = ppo.kl_estimate(experience.log_probs[rows], log_probs)
                for name, tensor in (
                    ("loss/policy", policy),
                    ("loss/value", error),
                    ("policy/entropy", entropy),
                    ("policy/ratio", ratio),
                    ("policy/clipped", clipped),
                    ("value/clipped", value_clipped),
                    ("kl/policy", kl),
                ):
                    sums[name] += float((tensor * mask).sum() / tokens)
                largest = max(largest, float((ratio * mask).max()))
        processes.stop_where(bad is not None, lambda: self._refuse(str(bad), experience))
        everyones, largests = zip(*processes.gather((dict(sums), largest)), strict=True)
        means: dict[str, float] = defaultdict(float)
        for part in everyones:  # empty of a process that had no row
            for name, value in part.items():
                means[name] += value
        return {**means, "policy/ratio_max": max(largests)}

    def _step(self, optimizer: Any, experience: Experience) -> dict[str, float]:
        """Clip the gradient of actor and critic together, then step."""
        groups = optimizer.param_groups
        everything = [tensor for group in groups for tensor in group["params"]]
        processes.sum_gradients(everything)
        norms = [
            torch.nn.utils.get_total_norm([tensor.grad for tensor in group["params"] if tensor.grad is not None])
            for group in groups
        ]
        norm = torch.nn.utils.clip_grad_norm_(everything, self.config.gradient_clip)
        processes.stop_where(not torch.isfinite(norm), lambda: self._refuse("gradient", experience))
        optimizer.step()
        return {"gradient/actor": float(norms[0]), "gradient/critic": float(norms[1])}

    def _refuse(self, what: str, experience: Experience) -> NoReturn:
        """Stop before the step; see :func:`refuse`."""
        parts = vars(experience).items()
        tensors = {f"batch/{name}": part for name, part in parts if isinstance(part, torch.Tensor)}
        weights = {f"weights/{name}": tensor for name, tensor in trainable_state(self).items()}
        advice = "lower rl.learning_rate or rl.critic_learning_rate, or set trainer.precision=32-true"
        refuse(what, advice, self.rollouts.parent, tensors | weights)

    # ------------------------------------------------------------------ forward passes

    def _log_probs(
        self, experience: Experience, rows: torch.Tensor, adapter: str | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability of each generated token and entropy at its place, at the sampling temperature; (b, T)."""
        with using(self.model, adapter):
            hidden = self._states(experience, rows)
            mask = experience.mask[rows].bool()
            chosen = logits(self.model, hidden[mask]) / self.config.temperature  # the head on real tokens alone
            if experience.support is not None:
                chosen = experience.support.restrict(rows, chosen)
            log_probs = torch.zeros_like(experience.mask[rows])
            entropy = torch.zeros_like(log_probs)
            # One row of N tokens: the kernel loops over the first dimension.
            log_probs[mask] = selective_log_softmax(chosen[None], experience.actions[rows][mask][None])[0]
            entropy[mask] = entropy_from_logits(chosen)
            return log_probs, entropy

    def _values(self, experience: Experience, rows: torch.Tensor) -> torch.Tensor:
        """V of the state before each generated token; (b, T), zero on padding."""
        with using(self.model, CRITIC):
            hidden = self._states(experience, rows)
            # Returns of some tens would be rounded to quarters in bfloat16.
            with torch.autocast(hidden.device.type, enabled=False):
                return self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1) * experience.mask[rows]

    def _states(self, experience: Experience, rows: torch.Tensor) -> torch.Tensor:
        """Hidden states that predict the generated tokens, (b, T, H): those one place before them."""
        longest = int(experience.lengths[rows].max())
        hidden = hidden_states(self.model, experience.ids[rows, :longest], experience.attention[rows, :longest])
        before = experience.before[rows].clamp(max=longest - 1)  # what lies behind an answer is masked
        return hidden.take_along_dim(before[..., None], dim=1)


def _whole_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file whose last line a kill may have cut."""
    # Not splitlines: a title may hold one of the other line separators of Unicode.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
