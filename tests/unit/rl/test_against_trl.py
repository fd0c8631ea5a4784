"""The outside reference: on the same answers, advantages, losses and what is learnt are those of TRL."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from answering import engine_of
from datasets import Dataset
from safetensors.torch import load_file
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer, GRPOTrainer

from ctrlrec.config.compose import compose
from ctrlrec.config.schema import Config
from ctrlrec.controls.instruction import Instruction
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import lora, trainable_state, with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards.judging import Judgement
from ctrlrec.rewards.reward import Reward
from ctrlrec.rl.experience import Experience
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer, Sampler
from ctrlrec.rl.train import align


def settings(algorithm: str, *changes: str) -> Config:
    return compose(
        "variant=full", "model=llama_mini", f"rl/algorithm={algorithm}", "rl.iterations=1", "rl.prompts=3",
        "rl.samples_per_prompt=4", "rl.learning_rate=0.01", "rl.warmup_iterations=0", "rl.decay_power=0",
        "rl.item_count_min=2", "rl.item_count_max=3", "rl.ppo_epochs=3", "rl.minibatches=1", "rl.kl_coefficient=0",
        "rl.kl_stop=null", "rl.whiten_rewards=false", "rl.gradient_clip=0.05", "rl.lora_rank=4", "rl.lora_alpha=8",
        "model.max_response_length=24", "trainer.progress=false", "trainer.accelerator=cpu",
        "trainer.precision=32-true", *changes,
    )  # fmt: skip


def module_of(config: Config, model: PreTrainedModel, parts: tuple, folder: Path) -> RLModule:
    chat_format, builder = parts
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        adapted = with_actor_and_critic(model, 4, 8, critic=False)
    engine = engine_of("auto", adapted, chat_format, 24)
    module = RLModule(adapted, chat_format, builder, Reward(config.reward), config.rl, engine, folder)
    (optimizer,), _ = module.configure_optimizers()
    module.optimizers = lambda: optimizer  # type: ignore[method-assign]
    return module.eval()


@pytest.mark.parametrize(
    "changes",
    [
        ("rl.micro_batch_size=12",),
        ("rl.micro_batch_size=12", "rl.entropy_coefficient=0.5", "rl.clip=0.02"),
        # TRL averages the entropy in each micro-batch, we average over the tokens of all
        ("rl.micro_batch_size=5", "rl.entropy_coefficient=0", "rl.clip=0.02"),
    ],
)
def test_grpo_learns_what_trl_learns(
    make_model: Callable[..., PreTrainedModel], builder: InstructionBuilder, chat_format: ChatFormat, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...],
) -> None:  # fmt: skip
    # Many tokens end an answer here, so that answers differ in length.
    chat_format = ChatFormat(chat_format.tokenizer, chat_format.config, range(300, 340))
    answers: list[Answer] = []
    seen: list[dict[str, Any]] = []
    judged, compute = Sampler.judged, GRPOTrainer.compute_loss

    def kept(self: Sampler, *given: Any) -> list[Answer]:
        answers[:] = judged(self, *given)
        # The untrained model's answers are all worth the same: let their first tokens be their reward.
        for answer in answers:
            object.__setattr__(answer, "list_reward", answer.tokens[0] % 7 / 10)
            object.__setattr__(answer, "item_rewards", (0.0,) * len(answer.titles))
        return answers

    def spied(self: GRPOTrainer, model: Any, inputs: dict, *others: Any, **named: Any) -> torch.Tensor:
        loss = compute(self, model, inputs, *others, **named)
        seen.append({"loss": loss.detach().clone(), **inputs})
        return loss

    monkeypatch.setattr(Sampler, "judged", kept)
    monkeypatch.setattr(GRPOTrainer, "compute_loss", spied)
    monkeypatch.setattr(
        "ctrlrec.rl.outside.ControlReward.__call__",
        lambda self, *_, **__: [self.sampler.reward.total(one.item_rewards, one.list_reward) for one in answers],
    )
    config = settings("trl_grpo", *changes)
    align(config, make_model(), chat_format, builder, tmp_path, [])  # type: ignore[arg-type]

    ours = settings("grpo", *changes)
    module = module_of(ours, make_model(), (chat_format, builder), tmp_path)
    experience = module.score(answers)
    own = {
        tuple(answer.tokens): float(values[0]) for answer, values in zip(answers, experience.advantages, strict=True)
    }
    steps = len(seen) // 3
    for inputs in seen[:steps]:
        for ids, mask, advantage in zip(
            inputs["completion_ids"], inputs["completion_mask"], inputs["advantages"], strict=True
        ):
            assert own[tuple(ids[mask.bool()].tolist())] == pytest.approx(float(advantage), abs=1e-5)
    assert max(map(abs, own.values())) > 0.5 and len({len(answer.tokens) for answer in answers}) > 4
    losses: list[list[float]] = []
    accumulate = module._accumulate

    def remembered(*given: Any, **named: Any) -> dict[str, float]:
        losses.append([])
        return accumulate(*given, **named)

    def backward(loss: torch.Tensor) -> None:
        losses[-1].append(float(loss.detach()))
        loss.backward()

    module._accumulate, module.manual_backward = remembered, backward  # type: ignore[method-assign,assignment]
    parts = module.learn(experience)
    theirs = [
        sum(float(inputs["loss"]) for inputs in seen[begin : begin + steps]) for begin in range(0, len(seen), steps)
    ]
    assert [sum(each) for each in losses] == pytest.approx(theirs, abs=1e-5)
    assert len(set(theirs)) == 3 and parts["policy/steps"] == 3
    if "rl.clip=0.02" in changes:
        assert parts["policy/clipped"] > 0.05
    learnt = load_file(tmp_path / "adapter" / "actor" / "adapter_model.safetensors")
    for name, tensor in trainable_state(module.model).items():
        other = learnt[name.replace(".actor.", ".")]
        assert torch.allclose(tensor, other, atol=1e-5), name


def test_dpo_has_the_loss_and_the_gradient_of_trl(
    make_model: Callable[..., PreTrainedModel], builder: InstructionBuilder, chat_format: ChatFormat, tmp_path: Path
) -> None:
    catalogue = builder.catalogue
    pairs = [
        {
            "prompt": f"<|user|>list {count} films<|end|><|assistant|>",
            "chosen": "\n".join(catalogue.titles[count : 2 * count]),
            "rejected": "\n".join(catalogue.titles[7 : 7 + count + 1]),
        }
        for count in (2, 3, 5)
    ]
    seen: list[dict[str, Any]] = []

    class Spy(DPOTrainer):
        def compute_loss(self, model: Any, inputs: dict, *others: Any, **named: Any) -> torch.Tensor:
            loss = super().compute_loss(model, inputs, *others, **named)
            found = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], retain_graph=True)
            names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
            seen.append({"loss": float(loss.detach()), "gradient": dict(zip(names, found, strict=True)), **inputs})
            return loss

    arguments = DPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=3, max_steps=1, beta=0.3, report_to="none", use_cpu=True,
        bf16=False, gradient_checkpointing=False, disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Spy(
        make_model(), args=arguments, train_dataset=Dataset.from_list(pairs), processing_class=chat_format.tokenizer,
        peft_config=lora(4, 8),
    )  # fmt: skip
    torch.manual_seed(5)
    state = {}
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.05)
                state[name.replace(".default.", ".actor.")] = parameter.clone()
    trainer.train()

    config = settings("dpo", "rl.algorithm.options.beta=0.3", "rl.temperature=1.0")
    module = module_of(config, make_model(), (chat_format, builder), tmp_path)
    module.load_state_dict({f"model.{name}": tensor for name, tensor in state.items()}, strict=False)
    (batch,) = seen
    answers = []
    question = Instruction("sequential", "u", (0,), 1, 2, None, None, None, (("user", ""),))
    for ids, attention, completion in zip(
        batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
    ):
        prompt, tokens = (ids[attention.bool() & (completion == side)].tolist() for side in (0, 1))
        judgement = Judgement(question, (), (), (), ())
        answers.append(Answer(prompt, tokens, [0.0] * len(tokens), "", (), judgement, (), 0.0, (len(tokens) - 1,)))
    experience = Experience(answers, chat_format.pad, module.device)
    with torch.no_grad():
        experience.reference = module.log_probs(experience, torch.arange(6), None)[0]
    rows = torch.arange(6).view(2, 3).T.flatten()  # TRL's batch holds the chosen ones, then the rejected ones
    (term,) = module.algorithm.terms(module, experience, rows)
    assert term.values.shape == (3,) and float(term.values.mean().detach()) == pytest.approx(batch["loss"], abs=1e-5)
    assert abs(batch["loss"] - 0.6931) > 0.01
    term.values.mean().backward()
    for name, parameter in module.model.named_parameters():
        if parameter.requires_grad:
            expected = batch["gradient"][name.replace(".actor.", ".default.")]
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, expected, atol=1e-5 * (1 + float(expected.abs().max()))), name
