"""PPO's tensor functions against slow sums, known distributions and invariants."""

import pytest
import torch

from ctrlrec.rl import losses as ppo


@pytest.fixture
def ragged() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards, values and a mask of answers with 7, 3, 1 and 5 tokens; rubbish on the padding."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(4, 7, generator=generator, dtype=torch.float64)
    values = torch.randn(4, 7, generator=generator, dtype=torch.float64)
    mask = (torch.arange(7) < torch.tensor([[7], [3], [1], [5]])).double()
    return rewards * mask + 1e3 * (1 - mask), values * mask - 1e3 * (1 - mask), mask


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(0.99, 1.0), (1.0, 0.95), (0.9, 0.5), (0.99, 0.0), (0.0, 1.0)])
def test_advantages_against_a_double_sum(ragged, gamma: float, gae_lambda: float) -> None:
    """A_t = sum over l of (gamma lambda)^l delta_(t+l), summed again for every t."""
    rewards, values, mask = ragged
    advantages, returns = ppo.advantages_and_returns(rewards * mask, values, mask, gamma, gae_lambda)
    for row in range(4):
        length = int(mask[row].sum())
        state = [*values[row, :length].tolist(), 0.0]
        for t in range(length):
            expected = sum(
                (gamma * gae_lambda) ** (s - t) * (rewards[row, s].item() + gamma * state[s + 1] - state[s])
                for s in range(t, length)
            )
            assert advantages[row, t].item() == pytest.approx(expected)
            assert returns[row, t].item() == pytest.approx(expected + state[t])
        assert not advantages[row, length:].any()
        assert not returns[row, length:].any()


def test_with_lambda_one_returns_are_discounted_rewards_whatever_the_critic_says(ragged) -> None:
    rewards, values, mask = ragged
    _, returns = ppo.advantages_and_returns(rewards * mask, values, mask, 0.9, 1.0)
    _, other = ppo.advantages_and_returns(rewards * mask, values * 5 + 2, mask, 0.9, 1.0)
    assert torch.allclose(returns, other)
    last = rewards[1, 2]
    assert torch.allclose(returns[1, :3], torch.stack([
        rewards[1, 0] + 0.9 * rewards[1, 1] + 0.81 * last, rewards[1, 1] + 0.9 * last, last,
    ]))  # fmt: skip


def test_padding_never_enters(ragged) -> None:
    rewards, values, mask = ragged
    wider = [torch.nn.functional.pad(tensor, (0, 3), value=7.0) for tensor in (rewards * mask, values)]
    wide_mask = torch.nn.functional.pad(mask, (0, 3))
    narrow = ppo.advantages_and_returns(rewards * mask, values, mask, 0.9, 0.8)
    wide = ppo.advantages_and_returns(wider[0] * wide_mask, wider[1], wide_mask, 0.9, 0.8)
    for one, other in zip(narrow, wide, strict=True):
        assert torch.equal(one, other[:, :7])
    assert torch.allclose(
        ppo.whiten(narrow[0], mask, True), ppo.whiten(wide[0] + (1 - wide_mask), wide_mask, True)[:, :7]
    )


# ---------------------------------------------------------------------- whitening


@pytest.mark.parametrize("shift_mean", [True, False])
def test_whitened_tokens_have_variance_one(ragged, shift_mean: bool) -> None:
    rewards, _, mask = ragged
    tokens = ppo.whiten(3 * rewards * mask + 5 * mask, mask, shift_mean)[mask.bool()]
    assert float(tokens.var(unbiased=False)) == pytest.approx(1, abs=1e-6)
    if shift_mean:
        assert float(tokens.mean()) == pytest.approx(0, abs=1e-9)


def test_without_shift_zero_stays_zero_and_signs_stay(ragged) -> None:
    rewards, _, mask = ragged
    rewards = (rewards * mask).clamp(-0.5, 3)
    rewards[0, 2:5] = 0
    whitened = ppo.whiten(rewards, mask, shift_mean=False)
    assert torch.equal(whitened.sign(), rewards.sign())
    ratios = (whitened / rewards)[rewards != 0]
    assert torch.allclose(ratios, ratios[0].expand_as(ratios))


def test_equal_rewards_do_not_explode() -> None:
    mask = torch.ones(2, 3)
    assert ppo.whiten(torch.full((2, 3), 2.0), mask, shift_mean=True).abs().max() < 1e-3
    assert torch.isfinite(ppo.whiten(torch.zeros(2, 3), mask, shift_mean=False)).all()


# ---------------------------------------------------------------------- divergence


def test_k3_is_non_negative_and_unbiased() -> None:
    policy = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    reference = torch.tensor([0.2, 0.3, 0.1, 0.4], dtype=torch.float64)
    estimate = ppo.kl_estimate(policy.log(), reference.log())
    assert (estimate >= 0).all()
    assert estimate[1] == 0
    exact = float(torch.distributions.kl_divergence(
        torch.distributions.Categorical(policy), torch.distributions.Categorical(reference)
    ))  # fmt: skip
    assert float((policy * estimate).sum()) == pytest.approx(exact)  # the mean over draws from the policy


def test_the_kl_loss_has_the_gradient_of_the_divergence() -> None:
    """Weighted by how often each token is drawn, the gradients of the samples add up to that of KL(pi || reference)."""
    logits = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([1.0, 0.5, -0.4, 0.0], dtype=torch.float64).log_softmax(0)
    log_probs = logits.log_softmax(0)
    drawn = (log_probs.exp().detach() * ppo.kl_loss(log_probs, reference)).sum()
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits), torch.distributions.Categorical(logits=reference)
    )
    (own,) = torch.autograd.grad(drawn, logits)
    (exact,) = torch.autograd.grad(divergence, logits)
    assert torch.allclose(own, exact, atol=1e-12)


def test_the_penalty_is_what_the_policy_gained_on_the_reference() -> None:
    rewards = ppo.penalised_rewards(
        torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[-1.0, -1.0, 5.0]]), torch.tensor([[-2.0, -0.5, 7.0]]),
        torch.tensor([[1.0, 1.0, 0.0]]), 0.3,
    )  # fmt: skip
    assert rewards.tolist() == [[pytest.approx(-0.3), pytest.approx(1.15), 0.0]]


# ---------------------------------------------------------------------- losses


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, 0),
        (1.1, 2.0, -2.2, 0),
        (1.5, 2.0, -2.4, 1),  # no more is gained beyond 1.2
        (0.5, 2.0, -1.0, 0),
        (0.5, -2.0, 1.6, 1),  # no more is gained below 0.8
        (1.5, -2.0, 3.0, 0),  # what got worse counts in full
    ],
)
def test_clipped_surrogate(ratio: float, advantage: float, loss: float, clipped: int) -> None:
    old = torch.tensor([[-1.0]])
    now = (old + torch.tensor(ratio).log()).requires_grad_()
    value, ratios, took_effect = ppo.policy_loss(now, old, torch.tensor([[advantage]]), 0.2)
    assert value.item() == pytest.approx(loss)
    assert ratios.item() == pytest.approx(ratio)
    assert took_effect.item() == clipped
    value.sum().backward()
    assert (now.grad.item() == 0) == bool(clipped)


def test_value_loss_and_its_clip() -> None:
    old, target = torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([[5.0, 5.0, -5.0, 0.1]])
    values = torch.tensor([[4.0, 0.1, 1.0, 0.1]])
    loss, clipped = ppo.value_loss(values, old, target, None)
    assert loss[0].tolist() == pytest.approx([0.5, 12.005, 18.0, 0.0])
    assert not clipped.any()
    loss, clipped = ppo.value_loss(values, old, target, 0.2)
    # 0 may move to 0.2 at most: 4 counts as 0.2; 1 counts as 0.2 towards -5, which the plain error exceeds.
    assert loss[0].tolist() == pytest.approx([11.52, 12.005, 18.0, 0.0])
    assert clipped[0].tolist() == [1, 0, 0, 0]


def test_explained_variance(ragged) -> None:
    returns, values, mask = ragged
    assert float(ppo.explained_variance(returns, returns, mask)) == 1
    assert float(ppo.explained_variance(returns + 3, returns, mask)) == pytest.approx(1)  # an offset explains as much
    assert float(ppo.explained_variance(torch.full_like(returns, 2.0), returns, mask)) == pytest.approx(0)
    assert float(ppo.explained_variance(-returns, returns, mask)) == pytest.approx(-3)
    assert torch.isfinite(ppo.explained_variance(values, torch.ones_like(values), mask))
