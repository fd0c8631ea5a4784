"""What an algorithm of RL decides: which adapters learn, how rewards become advantages, what a minibatch loses."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from ctrlrec.config.options import typed_options
from ctrlrec.config.schema import RLConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.rl import losses

if TYPE_CHECKING:
    from ctrlrec.rl.experience import Experience


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
        per_token: (b, T); its sum over generated tokens, divided by all tokens of the minibatch, is the term.
        weight: factor on the term.
        means: (b, T) tensors by name, logged as means over sampled tokens.
        largest: (b, T) tensors by name, logged as maxima over sampled tokens.
    """

    name: str
    per_token: torch.Tensor
    weight: float = 1.0
    means: dict[str, torch.Tensor] = field(default_factory=dict)
    largest: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class NoOptions:
    """The options of an algorithm that has none."""


class Algorithm(ABC):
    """An algorithm with an actor and, where it says so, a critic; the loss of the actor is PPO's clipped surrogate.

    Attributes:
        Options: dataclass of the settings under ``rl.algorithm.options``.
        critic: whether a critic learns beside the actor.
        grouped: whether the answers to one prompt are compared, so that at least two are needed.
    """

    Options: ClassVar[type] = NoOptions
    critic: ClassVar[bool] = False
    grouped: ClassVar[bool] = False

    def __init__(self, config: RLConfig):
        self.config = config
        self.options: Any = typed_options(self.Options, config.algorithm.options, "rl.algorithm.options")

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
        if config.critic_ahead and not cls.critic:
            raise CtrlRecError(f"rl.critic_ahead={config.critic_ahead} {name}: it has no critic; set rl.critic_ahead=0")

    @abstractmethod
    def advantages(self, experience: "Experience", rewards: torch.Tensor) -> None:
        """Fill ``experience.advantages``, and ``experience.returns`` if there is a critic.

        Args:
            experience: with the log-probabilities and, for a critic, the values of the policy that sampled.
            rewards: (B, T) rule rewards less the KL penalty, whitened if ``rl.whiten_rewards``; 0 on padding.
        """

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
        """Return the clipped surrogate less the entropy bonus; greedy answers have no part in the bonus."""
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
        return Term("policy loss", loss - bonus, means=means, largest={"policy/ratio_max": ratio.detach()})

    def report(self, experience: "Experience") -> dict[str, float]:
        """Return what to log of an iteration before it is learnt from."""
        return {}
