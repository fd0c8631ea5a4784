"""One PPO iteration on a tiny model: what moves, what stays, and what must not matter."""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from ctrlrec.config.schema import ClipGroups
from ctrlrec.controls.instruction import Instruction
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm import head
from ctrlrec.lm.adapters import ACTOR, CRITIC, trainable_state, using
from ctrlrec.lm.layers import checkpoint_activations
from ctrlrec.rl.data import RLData
from ctrlrec.rl.experience import Experience
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer

Make = Callable[..., RLModule]
Collect = Callable[[RLModule], list[Answer]]


def gradients(module: RLModule) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters() if parameter.grad is not None}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 2e-4) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=1e-3, atol=tolerance * (1 + float(tensor.abs().max()))), name


# ---------------------------------------------------------------------- the first minibatch


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_first_minibatch_has_ratio_one_and_divergence_zero(
    make_module: Make, collect: Collect, temperature: float
) -> None:
    module = make_module(temperature=temperature)
    experience = module.score(collect(module))
    parts = module._accumulate(experience, torch.arange(6))
    assert parts["policy/ratio"] == pytest.approx(1, abs=1e-5)
    assert parts["policy/ratio_max"] == pytest.approx(1, abs=1e-5)
    assert parts["kl/policy"] == pytest.approx(0, abs=1e-6)
    assert parts["policy/clipped"] == 0
    # The advantages are whitened: with ratio one the surrogate is minus their mean, zero.
    assert parts["loss/policy"] == pytest.approx(0, abs=1e-4)


def test_the_kl_loss_pulls_towards_the_reference_where_nothing_is_compared(
    make_module: Make, answers: list[Answer]
) -> None:
    """Answers that are all alike have advantage 0, so a penalty in the reward would leave the policy where it is."""
    module = make_module(moved=0.2, kl_loss_coefficient=1.0, entropy_coefficient=0.0)
    experience = module.score(answers)
    experience.advantages.zero_()
    before = module._accumulate(experience, torch.arange(6))["loss/kl"]
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    assert 0 < module._accumulate(experience, torch.arange(6))["loss/kl"] < before


def test_fresh_adapters_are_the_reference(make_module: Make, answers: list[Answer]) -> None:
    module = make_module(moved=0.0)
    experience = module.score(answers)
    assert torch.equal(experience.log_probs, experience.reference)
    moved = make_module(moved=0.2).score(answers)
    assert torch.allclose(moved.reference, experience.reference, atol=1e-5)
    assert not torch.allclose(moved.log_probs, moved.reference, atol=1e-2)


def test_scores_equal_plain_forward_passes(make_module: Make, answers: list[Answer]) -> None:
    """Row by row, without padding, over the whole vocabulary, at the sampling temperature."""
    module = make_module(temperature=0.7)
    experience = module.score(answers)
    with torch.no_grad():
        for row, answer in enumerate(answers):
            ids, start = torch.tensor([answer.prompt + answer.tokens]), len(answer.prompt)
            for adapter, column in ((ACTOR, experience.log_probs), (None, experience.reference)):
                with using(module.model, adapter):
                    scored = torch.log_softmax(module.model(input_ids=ids).logits[0] / 0.7, -1)
                expected = scored[torch.arange(start - 1, ids.shape[1] - 1), ids[0, start:]]
                assert torch.allclose(column[row, : len(answer.tokens)], expected, atol=1e-3)
            with using(module.model, CRITIC):
                hidden = module.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, start - 1 : -1]
            values = module.value_head(hidden)[:, 0]
            assert torch.allclose(experience.values[row, : len(answer.tokens)], values, atol=1e-3)
    for column in (experience.log_probs, experience.values, experience.advantages, experience.returns):
        assert not (column * (1 - experience.mask)).any()


def test_entropy_is_that_of_the_sampling_distribution(make_module: Make, answers: list[Answer]) -> None:
    module = make_module(temperature=0.7)
    experience = module.score(answers)
    _, entropy = module.log_probs(experience, torch.arange(6))
    answer = answers[1]
    with torch.no_grad(), using(module.model, ACTOR):
        scores = module.model(input_ids=torch.tensor([answer.prompt + answer.tokens])).logits[0] / 0.7
    expected = torch.distributions.Categorical(logits=scores[len(answer.prompt) - 1 : -1]).entropy()
    assert torch.allclose(entropy[1, : len(answer.tokens)], expected, atol=1e-3)
    assert 0 < float(expected.mean()) < math.log(512)


# ---------------------------------------------------------------------- what learns


def test_every_tensor_of_actor_critic_and_head_learns_and_nothing_else(
    make_module: Make, answers: list[Answer]
) -> None:
    module = make_module()
    listed = [id(parameter) for group in module.optimizers().param_groups for parameter in group["params"]]
    assert len(listed) == len(set(listed))
    for name, parameter in module.named_parameters():
        learns = any(part in name for part in (f".{ACTOR}.", f".{CRITIC}.", "value_head"))
        assert (id(parameter) in listed) == learns == parameter.requires_grad, name
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.learn(module.score(answers))
    after = module.state_dict()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
            assert not torch.equal(before[name], after[name]), name
        else:
            assert parameter.grad is None, name
            assert torch.equal(before[name], after[name]), name


def test_layers_computed_anew_give_actor_and_critic_the_same_gradients(
    make_module: Make, answers: list[Answer]
) -> None:
    """Each backward pass must find the adapter of its forward pass in force."""
    kept, anew = make_module(), make_module()
    checkpoint_activations(anew.model.get_base_model())
    for module in (kept, anew):
        module.learn(module.score(answers))
    expected, found = gradients(kept), gradients(anew)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


def test_a_head_in_chunks_changes_nothing(
    make_module: Make, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_SCORES", 512 * 7)
    monkeypatch.setattr(head.kernels, "TOKENS_AT_ONCE", 32)
    whole, chunked = make_module(scale=1.0), make_module(scale=1.0)
    chunked.chunked_head = True
    numbers = [module._accumulate(module.score(answers), torch.arange(6)) for module in (whole, chunked)]
    for name, value in numbers[0].items():
        assert numbers[1][name] == pytest.approx(value, abs=1e-5), name
    same(gradients(whole), gradients(chunked), 1e-6)


def test_the_first_step_from_fresh_adapters_moves_both(make_module: Make, answers: list[Answer]) -> None:
    module = make_module(moved=0.0)
    module.learn(module.score(answers))
    for adapter in (ACTOR, CRITIC):
        assert all(
            float(parameter.detach().abs().sum()) > 0
            for name, parameter in module.named_parameters()
            if "lora_B" in name and f".{adapter}." in name
        )


def test_a_learning_rate_of_zero_leaves_every_tensor_as_it_is(make_module: Make, answers: list[Answer]) -> None:
    module = make_module(learning_rate=0.0, critic_learning_rate=0.0, ppo_epochs=2)
    before = copy.deepcopy(module.state_dict())
    module.learn(module.score(answers))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_learning_rates_are_those_of_their_group(make_module: Make, answers: list[Answer]) -> None:
    for rates, moves in (({"learning_rate": 0.0}, CRITIC), ({"critic_learning_rate": 0.0}, ACTOR)):
        module = make_module(**rates)
        before = {name: tensor.clone() for name, tensor in trainable_state(module).items()}
        module.learn(module.score(answers))
        moved = {name for name, tensor in trainable_state(module).items() if not torch.equal(tensor, before[name])}
        assert moved
        assert all(f".{moves}." in name or (moves == CRITIC and "value_head" in name) for name in moved)


def test_actor_and_critic_do_not_share_gradients(make_module: Make, answers: list[Answer]) -> None:
    module = make_module(value_coefficient=0.0)
    module._accumulate(module.score(answers), torch.arange(6))
    for name, gradient in gradients(module).items():
        assert bool(gradient.any()) == (f".{ACTOR}." in name), name


def test_the_early_stop_comes_before_a_step(make_module: Make, answers: list[Answer]) -> None:
    module = make_module(ppo_epochs=3, kl_stop=1e-9, learning_rate=0.05)
    assert module.learn(module.score(answers))["policy/steps"] == 1  # the second pass already sees a moved policy
    module = make_module(ppo_epochs=3, kl_stop=None, minibatches=2)
    assert module.learn(module.score(answers))["policy/steps"] == 6


# ---------------------------------------------------------------------- what must not matter


@pytest.mark.parametrize(("size", "tokens"), [(1, None), (4, None), (6, None), (6, 1), (1, 400), (1, 10**6)])
def test_micro_batches_change_nothing(make_module: Make, answers: list[Answer], size: int, tokens: int | None) -> None:
    parts = []
    for micro, budget in ((size, tokens), (2, None)):
        module = make_module(micro_batch_size=micro, micro_tokens=budget)
        parts.append((module._accumulate(module.score(answers), torch.arange(6)), gradients(module)))
    for name, value in parts[1][0].items():
        assert parts[0][0][name] == pytest.approx(value, abs=1e-3), name
    same(parts[0][1], parts[1][1])


def test_a_budget_of_tokens_groups_answers(make_module: Make, answers: list[Answer]) -> None:
    experience = make_module().score(answers)
    everyone = torch.arange(6)
    for budget in (1, 200, 10**6):
        groups = experience.micro_batches(everyone, 2, tokens=budget)
        assert torch.cat(groups).sort().values.tolist() == everyone.tolist()
        assert all(len(group) * int(experience.lengths[group].max()) <= budget or len(group) == 1 for group in groups)
    assert [len(group) for group in groups] == [6]


def test_the_order_of_answers_changes_nothing(make_module: Make, answers: list[Answer]) -> None:
    order = [4, 0, 5, 2, 1, 3]
    module, other = make_module(), make_module()
    experience, shuffled = module.score(answers), other.score([answers[index] for index in order])
    for name in ("log_probs", "reference", "values", "advantages", "returns"):
        assert torch.allclose(getattr(experience, name)[order], getattr(shuffled, name), atol=1e-3), name
    module._accumulate(experience, torch.arange(6))
    other._accumulate(shuffled, torch.arange(6))
    same(gradients(module), gradients(other))


def test_padding_changes_nothing(make_module: Make, answers: list[Answer]) -> None:
    """Two answers scored beside a much longer prompt, and beside each other alone."""
    module = make_module(whiten_rewards=False)
    pair = sorted(answers, key=lambda answer: len(answer.prompt))[:2]
    longest = max(answers, key=lambda answer: len(answer.prompt))
    together, alone = module.score([*pair, longest]), module.score(pair)
    assert together.ids.shape[1] > alone.ids.shape[1]
    width = alone.mask.shape[1]
    for name in ("log_probs", "reference", "values", "returns"):
        assert torch.allclose(getattr(together, name)[:2, :width], getattr(alone, name), atol=1e-3), name


def test_gradients_of_a_minibatch_come_from_its_rows_alone(make_module: Make, answers: list[Answer]) -> None:
    """Answers are paired with their own advantages, wherever in the batch they stand."""
    module = make_module()
    experience = module.score(answers)
    module._accumulate(experience, torch.tensor([4, 1]))
    chosen = gradients(module)
    alone = Experience([answers[4], answers[1]], module.chat_format.pad, module.device)
    width = alone.mask.shape[1]
    for name in ("log_probs", "reference", "values", "advantages", "returns"):
        setattr(alone, name, getattr(experience, name)[[4, 1], :width])
    module._accumulate(alone, torch.arange(2))
    same(chosen, gradients(module))


def test_item_rewards_are_what_v3_lacks(make_module: Make, answers: list[Answer]) -> None:
    settings = {"whiten_rewards": False, "kl_coefficient": 0.0, "gamma": 1.0}
    full, v3 = make_module(**settings).score(answers), make_module(reward=("item_weight=0",), **settings).score(answers)
    # With no discount and lambda one the return of the first token is everything that was placed.
    for row, answer in enumerate(answers):
        assert float(full.returns[row, 0]) == pytest.approx(
            sum(answer.item_rewards) + 10 * answer.list_reward, abs=1e-3
        )
        assert float(v3.returns[row, 0]) == pytest.approx(10 * answer.list_reward, abs=1e-3)


# ---------------------------------------------------------------------- a whole run


def trained(module: RLModule, builder: InstructionBuilder) -> dict[str, float]:
    """Through Lightning, as a stage does it; the last iteration's metrics."""
    for name in ("optimizers", "manual_backward"):
        delattr(module, name)
    fit = pl.Trainer(
        accelerator="cpu", max_epochs=module.config.iterations, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        default_root_dir=module.rollouts.path.parent,
    )  # fmt: skip
    fit.fit(module, datamodule=RLData(builder, module.config, 64))
    return {name: float(value) for name, value in fit.callback_metrics.items()}


def test_iterations_through_lightning_write_their_rollouts(make_module: Make, builder: InstructionBuilder) -> None:
    module = make_module(iterations=3)
    metrics = trained(module, builder)
    rows = [line for line in module.rollouts.path.read_text(encoding="utf-8").splitlines() if line]
    assert len(rows) == 3 * 6
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"reward/total", "kl/reference", "value/explained_variance", "policy/entropy"} <= metrics.keys()


@pytest.mark.slow
def test_an_easy_reward_rises(make_module: Make, builder: InstructionBuilder) -> None:
    """Every token with a small id earns one, on the spot: a policy that learns at all finds it."""
    module = make_module(
        iterations=40, prompts=4, samples_per_prompt=4, micro_batch_size=16,
        learning_rate=3e-2, critic_learning_rate=5e-3, kl_coefficient=0.0, entropy_coefficient=0.0, ppo_epochs=4,
        temperature=1.0, reward=("list_weight=0",), max_new_tokens=12, gamma=0.0, moved=0.001, scale=12.0,
    )  # fmt: skip
    collected = module.collect
    means: list[float] = []

    def collect(instructions: Sequence[Instruction]) -> list[Answer]:
        answers = []
        for answer in collected(instructions):
            earned = tuple(float(token < 256) for token in answer.tokens)
            places = (*range(len(earned)), len(earned) - 1)
            answers.append(dataclasses.replace(answer, item_rewards=earned, reward_at=places))
        tokens = [value for answer in answers for value in answer.item_rewards]
        means.append(sum(tokens) / len(tokens))
        return answers

    module.collect = collect  # type: ignore[method-assign]
    trained(module, builder)
    assert sum(means[-5:]) / 5 > sum(means[:5]) / 5 + 0.15, means


# ---------------------------------------------------------------------- groups of parameters, autocast


def test_groups_clipped_apart_do_not_scale_one_another(make_module: Make, answers: list[Answer]) -> None:
    """With the critic's loss a thousand times as large, joint clipping leaves the actor hardly any gradient."""
    norms = {}
    for clip in ("joint", "apart"):
        module = make_module(clip_groups=ClipGroups(clip), gradient_clip=0.05, value_coefficient=100.0)
        module.learn(module.score(answers))
        groups = module.optimizers().param_groups
        norms[clip] = [
            float(torch.stack([tensor.grad.norm() for tensor in group["params"]]).norm()) for group in groups
        ]
    assert norms["apart"] == pytest.approx([0.05, 0.05], rel=1e-3)
    assert norms["joint"][1] == pytest.approx(0.05, rel=1e-3)
    assert norms["joint"][0] < 0.005


def test_the_critic_alone_learns_while_it_is_ahead(make_module: Make, answers: list[Answer]) -> None:
    module = make_module(ppo_epochs=2)
    before = {name: tensor.clone() for name, tensor in trainable_state(module).items()}
    learnt = module.learn(module.score(answers), actor=False)
    assert "loss/policy" not in learnt and learnt["policy/steps"] == 2
    for name, tensor in trainable_state(module).items():
        assert torch.equal(tensor, before[name]) == (f".{ACTOR}." in name), name
    actor = next(group for group in module.optimizers().param_groups if group["name"] == ACTOR)
    assert not any(tensor in module.optimizers().state for tensor in actor["params"])  # no moments of Adam either


@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "item_grpo"])
def test_without_a_critic_the_actor_learns_as_ever(make_module: Make, collect: Collect, algorithm: str) -> None:
    module = make_module(algorithm=algorithm, ppo_epochs=2)
    assert module.value_head is None
    assert not [name for name, _ in module.named_parameters() if CRITIC in name]
    experience = module.score(collect(module))
    assert experience.advantages.any() and not experience.returns.any()
    parts = module._accumulate(experience, torch.arange(6))
    assert parts["policy/ratio"] == pytest.approx(1, abs=1e-5)
    learnt = module.learn(experience)
    assert learnt["policy/steps"] == 2 and "loss/value" not in learnt
    assert all(parameter.grad.any() for name, parameter in module.named_parameters() if f".{ACTOR}." in name)


def test_epochs_learn_with_the_weights_of_the_step_before(make_module: Make, answers: list[Answer]) -> None:
    """Autocast keeps casted weights where its cache is on; a second epoch must not compute with those of the first."""
    divergences = {}
    for cache in (True, False):
        module = make_module(ppo_epochs=3, learning_rate=0.01)
        seen: list[dict[str, float]] = []
        accumulate = module._accumulate

        def remembered(*given: Any, accumulate: Any = accumulate, seen: list = seen) -> dict[str, float]:
            seen.append(accumulate(*given))
            return seen[-1]

        module._accumulate = remembered  # type: ignore[method-assign]
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
            module.learn(module.score(answers))
        divergences[cache] = [parts["kl/policy"] for parts in seen]
    assert divergences[True][1] > 0 and divergences[True][2] > divergences[True][1]
    assert divergences[True] == pytest.approx(divergences[False])


def test_scores_are_those_of_the_weights_at_the_time(make_module: Make, answers: list[Answer]) -> None:
    module = make_module()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=True):
        before = module.score(answers).log_probs
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if f".{ACTOR}." in name:
                    parameter.mul_(3)
        after = module.score(answers).log_probs
    assert not torch.allclose(before, after, atol=1e-2)
