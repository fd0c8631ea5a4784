"""A small world shared by the tests: 40 titles, 25 users, an untrained teacher, a tiny Llama and its tokenizer."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ctrlrec.config.schema import (
    AlgorithmConfig,
    CategorySampling,
    ClipGroups,
    InstructionsConfig,
    ModelConfig,
    RLConfig,
    SLConfig,
    Trainable,
)
from ctrlrec.data.catalogue import Catalogue, target_categories
from ctrlrec.data.sequences import Sequences
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.backbone import load_model, train_tokenizer
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.teacher.models.sasrec import SASRec, SASRecOptions
from ctrlrec.teacher.ranker import Ranker

torch.set_num_threads(1)  # the tests run side by side: threads of one would keep those of the other waiting

TITLES = (
    "12 Angry Men (1957)", "Se7en (1995)", "2001: A Space Odyssey (1968)", "Amélie (2001)", "千と千尋の神隠し",
    "Good, the Bad and the Ugly, The (1966)", "Schindler's List (1993)", "'Til There Was You (1997)",
    'Wallace "and" Gromit', "1984", "8 1/2", "3. Liga", "Crème brûlée: Le Film", "M", "Léon: The Professional",
    "Toy Story (1995)", "Toy Story 2 (1999)", "Heat, The (1995)", "Jaws 2", "101 Dalmatians", "Die Hard 2",
    "One Flew Over the Cuckoo's Nest (1975)", "Alien³", "Fargo", "Twelve Monkeys", "Apollo 13", "Babe",
    "Star Trek: First Contact", "Star Trek VI", "E.T. the Extra-Terrestrial", "Brazil", "Das Boot", "Ran",
    "Stalker 🎬", "Mr. Smith {Goes} to Washington", "Aliens", "Alien", "Trainspotting", "Clerks", "Vertigo",
)  # fmt: skip
CATEGORIES = ("Action, Adventure", "Children's", "Comedy", "Drama", "Science Fiction")


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Undo what a process of rank 1 does to logging, so that later tests on the same worker hear of warnings."""
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """40 items in five flat categories; every third item has two of them."""
    rng = np.random.default_rng(0)
    categories = []
    for item in range(len(TITLES)):
        first = item % len(CATEGORIES)
        other = (first + 1 + int(rng.integers(len(CATEGORIES) - 1))) % len(CATEGORIES)
        categories.append((CATEGORIES[first], CATEGORIES[other]) if item % 3 == 0 else (CATEGORIES[first],))
    targets = target_categories(categories, flat=True)
    ids = tuple(f"i{item}" for item in range(len(TITLES)))
    return Catalogue(ids, TITLES, tuple(categories), tuple(targets), (1,) * len(TITLES))


@pytest.fixture(scope="session")
def make_sequences(catalogue: Catalogue) -> Callable[..., Sequences]:
    """Sequences of 25 users with 4 to 20 items each; ``ends`` replaces everybody's last two items."""

    def make(ends: tuple[int, int] | None = None) -> Sequences:
        rng = np.random.default_rng(1)
        rows = []
        for _ in range(25):
            row = rng.permutation(len(catalogue))[: int(rng.integers(4, 21))].tolist()
            rows.append(row if ends is None else [*row[:-2], *ends])
        offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
        items = np.asarray([item for row in rows for item in row], np.int32)
        return Sequences(tuple(f"u{user}" for user in range(25)), offsets, items, 10)

    return make


@pytest.fixture(scope="session")
def sequences(make_sequences: Callable[..., Sequences]) -> Sequences:
    return make_sequences()


@pytest.fixture(scope="session")
def ranker(catalogue: Catalogue) -> Ranker:
    """An untrained teacher in double precision: its order is arbitrary and fixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = SASRec(len(catalogue), 10, SASRecOptions(embedding=16, layers=1, heads=2, dropout=0.0))
    return Ranker(model.double())


@pytest.fixture(scope="session")
def tokenizer(catalogue: Catalogue) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 512 tokens."""
    return train_tokenizer(templates.specimens(catalogue.titles, catalogue.category_names), 512)


@pytest.fixture(scope="session")
def make_model_config() -> Callable[..., ModelConfig]:
    def make(**changes: Any) -> ModelConfig:
        values = {
            "name": "tiny", "kind": "llama_mini", "path": None, "revision": None, "dtype": "float32", "attention": None,
            "system_prompt": None, "thinking": False, "template_date": "2024-07-26", "max_length": 640,
            "max_response_length": 160, "hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 512,
            "initializer_range": 0.02,
        }  # fmt: skip
        return ModelConfig(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def chat_format(tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., ModelConfig]) -> ChatFormat:
    return ChatFormat(tokenizer, make_model_config())


@pytest.fixture
def make_model(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., ModelConfig], tmp_path_factory: Any
) -> Callable[..., PreTrainedModel]:
    """A fresh untrained Llama of hidden size 32 with two layers, in evaluation mode.

    Its weights are larger than usual, so that its predictions differ clearly from token to token.
    """

    def make(seed: int = 0, scale: float = 4.0) -> PreTrainedModel:
        model = load_model(make_model_config(), tmp_path_factory.mktemp("cache"), tokenizer, seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.mul_(scale)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_builder(
    catalogue: Catalogue, sequences: Sequences, ranker: Ranker, chat_format: ChatFormat
) -> Callable[..., InstructionBuilder]:
    """An instruction builder; keyword arguments change its settings or its parts."""

    def make(**changes: Any) -> InstructionBuilder:
        parts = {"catalogue": catalogue, "sequences": sequences, "ranker": ranker}
        parts |= {"limit": chat_format.limit(), "seed": 3}
        parts |= {name: changes.pop(name) for name in tuple(changes) if name in parts}
        values = {
            "item_count_min": 1, "item_count_max": 10, "search_item_count_max": None, "candidate_share": 0.2,
            "candidate_count": 15, "category_sampling": CategorySampling.ground_truth,
            "proportions": [10, 20, 30, 40, 50, 60, 70, 80, 90], "blend_share": 0.0, "search_negative_share": 0.5,
            "chat_path": None, "chat_ratio": 0.1, "validation_size": 8,
        }  # fmt: skip
        config = InstructionsConfig(**{**values, **changes})
        return InstructionBuilder(config=config, **parts)

    return make


@pytest.fixture(scope="session")
def builder(make_builder: Callable[..., InstructionBuilder]) -> InstructionBuilder:
    return make_builder()


@pytest.fixture(scope="session")
def make_sl_config() -> Callable[..., SLConfig]:
    def make(**changes: Any) -> SLConfig:
        values = {
            "trainable": Trainable.full, "lora_rank": 4, "lora_alpha": 8, "learning_rate": 1e-3, "batch_size": 8,
            "micro_batch_size": 4, "micro_tokens": None, "epochs": 1, "max_steps": None, "warmup_share": 0.0,
            "decay_power": 1.0, "gradient_clip": 1.0, "validations": 1, "constrained": False,
            "muon_learning_rate": None, "soft_labels": None, "soft_labels_end": None,
            "allowed_weight": 0.0,
        }  # fmt: skip
        return SLConfig(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def make_rl_config() -> Callable[..., RLConfig]:
    def make(algorithm: str = "ppo", options: dict[str, Any] | None = None, **changes: Any) -> RLConfig:
        own = {"ppo": {"whiten_advantages": "batch"}, "item_grpo": {"scale": "group"}}.get(algorithm, {})
        values = {
            "algorithm": AlgorithmConfig(algorithm, {**own, **(options or {})}),
            "iterations": 2, "schedule_iterations": None, "adam_epsilon": 1e-8,
            "prompts": 3, "samples_per_prompt": 2, "micro_batch_size": 3, "micro_tokens": None,
            "item_count_min": 2,
            "item_count_max": 4, "lora_rank": 4, "lora_alpha": 8, "learning_rate": 1e-3,
            "critic_learning_rate": 1e-3, "warmup_iterations": 0, "decay_power": 1.0, "gradient_clip": 0.5,
            "temperature": 0.7, "ppo_epochs": 1, "minibatches": 1, "clip": 0.2, "value_clip": None,
            "value_coefficient": 0.1, "entropy_coefficient": 0.01, "kl_coefficient": 0.3, "kl_stop": None,
            "gamma": 0.99, "gae_lambda": 1.0, "whiten_rewards": True, "decay_floor": 0.0,
            "critic_decay": True, "critic_ahead": 0, "clip_groups": ClipGroups.joint, "temperature_end": None,
            "greedy_row": False, "guided_row": "none", "corrected_row": False, "validate_every": None,
            "kl_loss_coefficient": 0.0, "constrained": False,
        }  # fmt: skip
        return RLConfig(**{**values, **changes})

    return make
