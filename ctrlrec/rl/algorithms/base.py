"""What an algorithm of RL decides: which adapters learn, how rewards become advantages, what a minibatch loses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from ctrlrec.config.options import typed_options
from ctrlrec.config.schema import Config, RLConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.rl import losses
from ctrlrec.rl.advantages import extremes

if TYPE_CHECKING:
    from peft import PeftModel
    from pytorch_lightning.loggers import Logger
    from transformers import PreTrainedModel

    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.rl.experience import Experience
    from ctrlrec.rl.rollout import Sampler


class Policy(Protocol):
    """The forward passes over some rows of an experience that a loss may ask for."""

    def log_probs(self, experience: "Experience", rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the actor's log-probability of each generated token and the entropy at its place; both (b, T)."""

    def values(self, experience: "Experience", rows: torch.Tensor) -> torch.Tensor:
        """Return the critic's value of the state before each generated token; (b, T)."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the loss of a minibatch.

    Attributes:
        name: for messages, such as "policy loss".
        values: (b, T); their sum over generated tokens, divided by all tokens of the minibatch, is the term. Or (u,),
            one for each unit of rows (``Algorithm.together``); their sum divided by all its units is the term.
        weight: factor on the term.
        means: tensors by name, logged as means over sampled tokens (b, T) or over units (u,).
        largest: (b, T) tensors by name, logged as maxima over sampled tokens.
    """

    name: str
    values: torch.Tensor
    weight: float = 1.0
    means: dict[str, torch.Tensor] = field(default_factory=dict)
    largest: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class NoOptions:
    """The options of an algorithm that has none."""


class Choice:
    """What ``rl.algorithm.name`` chooses.

    Attributes:
        Options: dataclass of the settings under ``rl.algorithm.options``.
        critic: whether a critic learns beside the actor.
        grouped: whether the answers to one prompt are compared, so that at least two are needed.
        constrained: whether it can sample under ``constraint.name``.
        kl_loss: whether ``rl.kl_loss_coefficient`` has a place in its loss.
    """

    Options: ClassVar[type] = NoOptions
    critic: ClassVar[bool] = False
    grouped: ClassVar[bool] = False
    constrained: ClassVar[bool] = True
    kl_loss: ClassVar[bool] = True

    @classmethod
    def check(cls, config: RLConfig) -> None:
        """Refuse settings that this algorithm cannot use.

        Raises:
            CtrlRecError: naming the key and what to change.
        """
        name = f"rl.algorithm.name={config.algorithm.name}"
        if cls.grouped and config.samples_per_prompt < 2:
            raise CtrlRecError(
                f"rl.samples_per_prompt={config.samples_per_prompt} {name}: it compares the answers to one prompt; "
                "set rl.samples_per_prompt to at least 2"
            )
        if config.kl_loss_coefficient and not cls.kl_loss:
            raise CtrlRecError(
                f"rl.kl_loss_coefficient={config.kl_loss_coefficient} {name}: its loss has no place for it; set "
                "rl.kl_loss_coefficient=0"
            )
        if config.critic_ahead and not cls.critic:
            raise CtrlRecError(f"rl.critic_ahead={config.critic_ahead} {name}: it has no critic; set rl.critic_ahead=0")


def refuse_rows(config: RLConfig, reason: str) -> None:
    """Refuse answers that are not sampled.

    Raises:
        CtrlRecError: naming the keys, the reason and what to change.
    """
    wanted = {"rl.greedy_row=true": "rl.greedy_row=false"} if config.greedy_row else {}
    if config.guided_row != "none":
        wanted[f"rl.guided_row={config.guided_row}"] = "rl.guided_row=none"
    if config.corrected_row:
        wanted["rl.corrected_row=true"] = "rl.corrected_row=false"
    if wanted:
        name = f"rl.algorithm.name={config.algorithm.name}"
        raise CtrlRecError(f"{' '.join(wanted)} {name}: {reason}; set {' and '.join(wanted.values())}")


class Algorithm(Choice, ABC):
    """An algorithm with an actor and, if declared, a critic; the loss of the actor is PPO's clipped surrogate.

    Attributes:
        offline: whether the model before RL answers, and not the actor.
        together: rows of a unit that a loss looks at together, such as the two of a pair.
    """

    offline: ClassVar[bool] = False
    together: ClassVar[int] = 1

    def __init__(self, config: RLConfig):
        self.config = config
        self.options: Any = typed_options(self.Options, config.algorithm.options, "rl.algorithm.options")

    @abstractmethod
    def advantages(self, experience: "Experience", rewards: torch.Tensor) -> None:
        """Fill ``experience.advantages``, and ``experience.returns`` if there is a critic.

        Args:
            experience: with the log-probabilities and, for a critic, the values of the policy that sampled.
            rewards: (B, T) rule rewards less the KL penalty, whitened if ``rl.whiten_rewards``; 0 on padding.
        """

    def learnt(self, experience: "Experience") -> torch.Tensor:
        """Return the rows (n,) to learn from, those of a unit side by side; offline algorithms drop some."""
        return torch.arange(len(experience.mask), device=experience.mask.device)

    def terms(self, policy: Policy, experience: "Experience", rows: torch.Tensor, actor: bool = True) -> Iterator[Term]:
        """Yield the terms of the loss over some rows; each is differentiated before the next is asked for.

        Args:
            policy: makes forward passes.
            experience: with its advantages.
            rows: (b,) row numbers.
            actor: False in iterations in which the critic alone learns.
        """
        if actor:
            yield self.surrogate(policy, experience, rows)

    def surrogate(self, policy: Policy, experience: "Experience", rows: torch.Tensor) -> Term:
        """Return the clipped surrogate less the entropy bonus, without greedy and guided answers, and the KL loss."""
        log_probs, entropy = policy.log_probs(experience, rows)
        loss, ratio, clipped = losses.policy_loss(
            log_probs, experience.log_probs[rows], experience.advantages[rows], self.config.clip
        )
        with torch.no_grad():
            means = {
                "loss/policy": loss.detach(),
                "policy/entropy": entropy.detach(),
                "policy/ratio": ratio.detach(),
                "policy/clipped": clipped,
                "kl/policy": losses.kl_estimate(experience.log_probs[rows], log_probs),
            }
        bonus = self.config.entropy_coefficient * entropy * experience.drawn[rows]
        if self.config.kl_loss_coefficient:
            kept = losses.kl_loss(log_probs, experience.reference[rows])
            loss, means["loss/kl"] = loss + self.config.kl_loss_coefficient * kept, kept.detach()
        return Term("policy loss", loss - bonus, means=means, largest={"policy/ratio_max": ratio.detach()})

    def report(self, experience: "Experience") -> dict[str, float]:
        """Return what to log of an iteration before it is learnt from."""
        return {}


class Compared(Algorithm):
    """An algorithm without a critic that compares the total rewards of the answers to one prompt.

    The KL penalty is part of the reward, per token as in PPO, and not a term of the loss. A greedy or guided answer is
    compared with the sampled ones and changes nothing for them.

    Attributes:
        compare: a function of :mod:`ctrlrec.rl.advantages`.
    """

    grouped = True
    compare: ClassVar[Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]]

    def advantages(self, experience: "Experience", rewards: torch.Tensor) -> None:
        """Give every token of an answer what its total reward is within its group."""
        total = (rewards * experience.mask).sum(1, keepdim=True)
        own = type(self).compare(total, experience.drawn_rows, experience.group)
        experience.advantages = own * experience.mask


class Offline(Algorithm):
    """An algorithm that learns from the best and the worst of the answers of the model before RL."""

    grouped = True
    offline = True
    kl_loss = False

    @classmethod
    def check(cls, config: RLConfig) -> None:
        """Refuse what :meth:`Algorithm.check` refuses, and answers that are not sampled."""
        super().check(config)
        refuse_rows(config, "it learns from sampled answers alone")

    def advantages(self, experience: "Experience", rewards: torch.Tensor) -> None:
        """Leave the advantages 0: what is learnt from is chosen, not weighed."""

    def extremes(self, experience: "Experience") -> torch.Tensor:
        """Return the rows (G, 2) of the best and of the worst answer to each prompt, by rule rewards."""
        totals = experience.rewards.sum(1, keepdim=True)
        return extremes(totals, experience.drawn_rows, experience.group)


@dataclass(frozen=True, slots=True)
class Outset:
    """The starting point of an algorithm of another library.

    Attributes:
        config: everything.
        model: the model after SL, adapters folded in.
        builder: gives prompts and validation questions.
        sampler: answers, judges and rewards.
        directory: of the stage; what a killed attempt resumes from goes to ``checkpoints`` in it.
        loggers: of the stage.
    """

    config: Config
    model: "PreTrainedModel"
    builder: "InstructionBuilder"
    sampler: "Sampler"
    directory: Path
    loggers: "Sequence[Logger]"


class Outside(Choice, ABC):
    """An algorithm whose loop is that of another library."""

    @classmethod
    def check(cls, config: RLConfig) -> None:
        """Refuse what :meth:`Choice.check` refuses, and answers that are not sampled."""
        super().check(config)
        refuse_rows(config, "its own loop supports sampled answers alone")

    @classmethod
    @abstractmethod
    def train(cls, outset: Outset) -> "PeftModel":
        """Train an actor, write ``rollouts.jsonl``, and return the model with the adapter ``actor``."""
