from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from answering import engine_of
from transformers import PreTrainedModel

from ctrlrec.config.compose import compose
from ctrlrec.config.schema import RLConfig
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.parsing import last_tokens, written_items
from ctrlrec.rewards.judging import judge
from ctrlrec.rewards.reward import Reward
from ctrlrec.rl.algorithms import ALGORITHMS
from ctrlrec.rl.data import Iterations
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer


def reward_of(*overrides: str) -> Reward:
    """The paper's reward, with changes to it."""
    return Reward(compose(*(f"reward.{change}" for change in overrides)).reward)


@pytest.fixture
def make_module(
    make_model: Callable[..., PreTrainedModel],
    make_rl_config: Callable[..., RLConfig],
    chat_format: ChatFormat,
    builder: InstructionBuilder,
    tmp_path: Path,
) -> Callable[..., RLModule]:
    """A module that learns without a trainer; its adapters already differ from no change at all."""

    def make(
        reward: tuple[str, ...] = (), moved: float = 0.05, max_new_tokens: int = 24, scale: float = 4.0, **changes: Any
    ) -> RLModule:
        torch.manual_seed(0)
        config = make_rl_config(**changes)
        critic = ALGORITHMS[config.algorithm.name].critic
        model = with_actor_and_critic(make_model(scale=scale), 4, 8, critic)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=moved)
        engine = engine_of("auto", model, chat_format, max_new_tokens)
        module = RLModule(model, chat_format, builder, reward_of(*reward), config, engine, tmp_path)
        (optimizer,), _ = module.configure_optimizers()
        module.optimizers = lambda: optimizer  # type: ignore[method-assign]
        module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
        return module.eval()

    return make


@pytest.fixture
def collect(builder: InstructionBuilder) -> Callable[[RLModule], list[Answer]]:
    """The answers of a first iteration."""

    def sample(module: RLModule) -> list[Answer]:
        torch.manual_seed(0)
        return module.collect(Iterations(builder, module.config, range(1))[0].instructions)

    return sample


@pytest.fixture
def answers(builder: InstructionBuilder, chat_format: ChatFormat) -> list[Answer]:
    """Six written answers of different lengths, some with mistakes, the last cut off."""
    instructions = builder.rollout_prompts(0, 6, (2, 4))
    prompts = chat_format.prompts([instruction.messages for instruction in instructions])
    made, reward = [], reward_of()
    for number, (instruction, prompt) in enumerate(zip(instructions, prompts, strict=True)):
        titles = [builder.catalogue.titles[(5 * number + 7 * place) % 40] for place in range(1 + number % 4)]
        text = templates.answer([*titles, "No Such Film"] if number == 2 else titles)
        (tokens,) = chat_format.responses([text])
        if number == 5:
            tokens = tokens[:-4]
        text = chat_format.tokenizer.decode(tokens, skip_special_tokens=True)
        items = written_items(text)
        (judgement,) = judge([instruction], [[item.title for item in items]], builder.catalogue, builder.ranker)
        ends = last_tokens(chat_format.written, tokens, text, [item.end for item in items])
        made.append(
            Answer(
                prompt,
                tokens,
                [-1.0] * len(tokens),
                text,
                tuple(item.title for item in items),
                judgement,
                tuple(reward.item(judgement)),
                reward.list(judgement),
                (*ends, len(tokens) - 1),
            )
        )
    return made


@pytest.fixture
def becomes_likelier(collect: Callable[[RLModule], list[Answer]]) -> Callable[[RLModule, str], bool]:
    """Whether learning from an iteration makes each of its answers of a kind likelier."""

    def learnt(module: RLModule, kind: str) -> bool:
        answers = collect(module)
        experience = module.score(answers)
        rows = [row for row, answer in enumerate(answers) if answer.kind == kind]
        before = (experience.log_probs * experience.mask).sum(1)[rows]
        module.learn(experience)
        after = (module.score(answers).log_probs * experience.mask).sum(1)[rows]
        return bool(rows) and bool((after > before).all())

    return learnt
