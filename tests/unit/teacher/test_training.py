from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file
from teacher_worlds import OPTIONS, catalogue_of, cyclic_world, random_world, sequences_of

from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.module import Windows, accuracy
from ctrlrec.teacher.ranker import Ranker
from ctrlrec.teacher.train import train_teacher

ITEMS = 25


def train(settings, hardware, sequences, directory: Path, n_items=ITEMS, seed=0, callbacks=()):
    directory.mkdir(exist_ok=True)
    metrics = train_teacher(settings, hardware, catalogue_of(n_items), sequences, seed, directory, [], list(callbacks))
    return metrics, load_file(directory / "teacher.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------------------------------------------------- windows


def epoch_of(sequences, padding=ITEMS, seed=0, epoch=0) -> Windows:
    return Windows(sequences, padding, 16, seed, epoch)


@pytest.mark.parametrize("length", [3, 4, 5, 12, 13, 14, 30])
def test_windows_are_stretches_of_training_items_and_cover_all_of_them(length):
    sequences = sequences_of([list(range(length)), list(range(100, 100 + length))])
    transitions = set()
    for epoch in range(20):
        for window in epoch_of(sequences, 999, epoch=epoch).windows():
            items = window[window != 999].tolist()
            assert len(window) == 11 and len(items) > 1
            assert window.tolist() == items + [999] * (11 - len(items))  # padded after, never inside
            assert items == list(range(items[0], items[0] + len(items)))
            assert items[-1] % 100 < length - 2
            transitions |= set(pairwise(items))
    expected = {(base + item, base + item + 1) for base in (0, 100) for item in range(length - 3)}
    assert transitions == expected


def test_an_epoch_asks_for_every_training_item_once():
    sequences = random_world()
    expected = Counter(pair for user in range(len(sequences)) for pair in pairwise(sequences.train(user).tolist()))
    for epoch in range(5):
        windows = epoch_of(sequences, epoch=epoch).windows()
        assert Counter(pair for row in windows for pair in pairwise(row[row != ITEMS].tolist())) == expected


def test_over_epochs_an_item_is_asked_for_after_every_length_of_history():
    sequences = sequences_of([list(range(40))])
    lengths = {item: set() for item in range(11, 38)}
    for epoch in range(200):
        for row in epoch_of(sequences, 99, epoch=epoch).windows():
            for position, item in enumerate(row[1:].tolist()):
                lengths.get(item, set()).add(position + 1)
    assert all(seen == set(range(1, 11)) for seen in lengths.values())


def test_batches_hold_every_window_once_and_targets_follow_histories():
    windows = epoch_of(random_world(), epoch=3)
    batches = list(windows)
    assert all(len(histories) <= 16 for histories, _ in batches)
    stacked = torch.cat([torch.cat([histories, targets[:, -1:]], 1) for histories, targets in batches])
    assert np.array_equal(stacked.numpy(), windows.windows())
    for histories, targets in batches:
        assert torch.equal(histories[:, 1:], targets[:, :-1])


def test_windows_depend_on_seed_and_epoch_alone():
    sequences = random_world()

    def made(seed, epoch):
        return epoch_of(sequences, seed=seed, epoch=epoch).windows().tolist()

    assert made(1, 2) == made(1, 2)
    assert made(1, 2) != made(1, 3)
    assert made(1, 2) != made(2, 2)


# --------------------------------------------------------------------------------------------------------- accuracy


class FixedRanker:
    """Places targets where it is told."""

    def __init__(self, places):
        self.places, self.at_once = list(places), 3

    def ranks(self, histories, items):
        return [[self.places.pop(0)] for _ in items]


def test_accuracy_by_hand():
    sequences = sequences_of([[1, 2, 3]] * 4)
    metrics = accuracy(FixedRanker([0, 6, None, 10]), sequences, "test")
    assert metrics == pytest.approx({"HR@5": 0.25, "HR@10": 0.5, "NDCG@5": 0.25, "NDCG@10": (1 + 1 / np.log2(8)) / 4})


# --------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(("model", "epochs"), [("sasrec", 12), ("gru4rec", 60)])
def test_learns_a_circle(settings, hardware, tmp_path, model, epochs):
    config = settings(model=model, max_epochs=epochs, dropout=0.0)
    metrics, _ = train(config, hardware, cyclic_world(), tmp_path, n_items=40)
    for split in ("validation", "test"):
        assert metrics[split]["HR@5"] > 0.98
        assert metrics[split]["NDCG@10"] > 0.95
    assert Ranker.load(tmp_path).top_k([[7, 8], [38, 39]], 1) == [[9], [0]]


@pytest.mark.parametrize("model", OPTIONS)
def test_same_seed_same_weights(settings, hardware, tmp_path, model):
    config = settings(model=model)
    torch.manual_seed(1)
    first, weights = train(config, hardware, random_world(), tmp_path / "a")
    torch.manual_seed(2)
    again, repeated = train(config, hardware, random_world(), tmp_path / "b")
    _, other = train(config, hardware, random_world(), tmp_path / "c", seed=1)
    assert first == again and same(weights, repeated)
    assert not same(weights, other)


@pytest.mark.parametrize("model", OPTIONS)
def test_trains_in_bfloat16(settings, hardware, tmp_path, model):
    config = settings(model=model, max_epochs=1)
    metrics, weights = train(config, replace(hardware, precision="bf16-mixed"), random_world(), tmp_path)
    assert metrics["epochs"] == 1
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in weights.values())


class KilledError(Exception):
    pass


class KillAt(Callback):
    def __init__(self, epoch: int, batch: int):
        self.epoch, self.batch = epoch, batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            raise KilledError


@pytest.mark.parametrize(
    ("model", "epoch", "batch"), [("sasrec", 0, 1), ("sasrec", 2, 0), ("sasrec", 3, 2), ("gru4rec", 2, 1)]
)
def test_interrupted_and_resumed_equals_undisturbed(settings, hardware, tmp_path, model, epoch, batch):
    config = settings(model=model, max_epochs=5)
    undisturbed, weights = train(config, hardware, random_world(), tmp_path / "a")
    with pytest.raises(KilledError):
        train(config, hardware, random_world(), tmp_path / "b", callbacks=[KillAt(epoch, batch)])
    resumed, again = train(config, hardware, random_world(), tmp_path / "b")
    assert resumed == undisturbed and same(weights, again)
    last = [torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in "ab"]
    assert last[0]["epoch"] == last[1]["epoch"] and same(last[0]["state_dict"], last[1]["state_dict"])


def test_stops_early_keeps_the_best_and_stays_stopped(settings, hardware, tmp_path):
    config = settings(max_epochs=60, patience=2, learning_rate=0.05)
    metrics, weights = train(config, hardware, random_world(), tmp_path)
    assert metrics["epochs"] == metrics["best_epoch"] + 2 < 60
    best = accuracy(Ranker.load(tmp_path), random_world(), "validation")
    assert metrics["validation"] == best
    # A run that was killed between its last epoch and being published trains no further epoch.
    again, repeated = train(config, hardware, random_world(), tmp_path)
    assert again == metrics and same(weights, repeated)


def test_the_last_two_items_reach_no_weight(settings, hardware, tmp_path):
    sequences = random_world()
    rng = np.random.default_rng(1)
    items = sequences.items.copy()
    for end in sequences.offsets[1:]:
        items[end - 2 : end] = rng.integers(0, ITEMS, 2)
    perturbed = replace(sequences, items=items)
    # Validation chooses the epoch, and nothing else: after a given number of epochs the weights are the same.
    train(settings(), hardware, sequences, tmp_path / "a")
    train(settings(), hardware, perturbed, tmp_path / "b")
    last = [torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in "ab"]
    assert same(last[0]["state_dict"], last[1]["state_dict"])
    for epoch in range(3):
        ours = epoch_of(sequences, epoch=epoch).windows()
        assert np.array_equal(ours, epoch_of(perturbed, epoch=epoch).windows())


def test_a_profile_says_which_phase_took_how_long_and_changes_nothing(settings, hardware, tmp_path):
    _, plain = train(settings(), hardware, random_world(), tmp_path / "a")
    assert not (tmp_path / "a" / "logs").exists()
    _, profiled = train(settings(), replace(hardware, profile=True), random_world(), tmp_path / "b")
    assert same(plain, profiled)
    text = (tmp_path / "b" / "logs" / "profile.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    table = {row[0]: row[1:] for row in rows[2:]}
    assert {"batches", "training steps", "backward passes", "optimiser steps", "validation steps"} <= table.keys()
    assert table["training steps"][0] == table["backward passes"][0] and table["validation steps"][0] == "3"
    whole = float(text.split(" s in all")[0])
    assert 0 < float(table["backward passes"][2]) < float(table["optimiser steps"][2]) < whole


def test_users_of_three_items_leave_nothing_to_learn(settings, hardware, tmp_path):
    with pytest.raises(CtrlRecError, match="none of 2 users has two items to train on"):
        train(settings(), hardware, sequences_of([[0, 1, 2], [3, 4, 5]]), tmp_path / "teacher")


@pytest.mark.parametrize("model", OPTIONS)
def test_ranks_better_than_popularity_what_users_take_next(settings, hardware, tmp_path, model):
    """Users walk a circle of 40 items with jumps; the popular items lie on no user's way."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(80):
        place, row = int(rng.integers(40)), []
        while len(row) < 15:
            place = (place + int(rng.choice([1, 1, 1, 7]))) % 40
            row.append(place)
        rows.append([40 + int(rng.integers(3)), *row])
    sequences = sequences_of(rows)
    metrics, _ = train(settings(model=model, max_epochs=20), hardware, sequences, tmp_path, n_items=43)
    counts = Counter(item for user in range(len(sequences)) for item in sequences.train(user).tolist())
    popular = []
    for user in range(len(sequences)):
        history, target = sequences.test(user)
        others = [item for item in range(43) if item not in history]
        popular.append(sum((counts[item], -item) > (counts[target], -target) for item in others))
    assert metrics["test"]["HR@5"] > np.mean(np.asarray(popular) < 5) + 0.3


def test_a_checkpoint_holds_the_settings(settings, hardware, tmp_path):
    train(settings(), hardware, random_world(), tmp_path)
    saved = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]
    assert saved["seed"] == 0 and saved["teacher"]["model"] == "sasrec" and saved["teacher"]["options"]["heads"] == 2


PLUGIN = '''
from dataclasses import dataclass

from torch import nn

from ctrlrec.config.schema import bounded
from ctrlrec.teacher.models.base import TeacherModel, initialise


@dataclass
class LastItemOptions:
    embedding: int = bounded(1)
    scale: float = bounded(0, 10)


class LastItem(TeacherModel):
    """Knows the newest item alone."""

    Options = LastItemOptions

    def __init__(self, items, length, options):
        super().__init__(items, length, options)
        self.projection = nn.Linear(options.embedding, options.embedding)
        initialise(self)

    def forward(self, histories):
        return self.options.scale * self.projection(self.item_embedding(histories))


TEACHER = LastItem
'''


def test_a_teacher_of_a_plug_in_is_trained_and_ranks(settings, hardware, tmp_path, monkeypatch):
    folder = tmp_path / "plugin" / "teacher" / "models"
    folder.mkdir(parents=True)
    (folder / "last_item.py").write_text(PLUGIN)
    monkeypatch.setenv("CTRLREC_PLUGINS", str(tmp_path / "plugin"))
    config = settings(max_epochs=30, learning_rate=0.03)
    config.model, config.options = "last_item", {"embedding": 16, "scale": 2.0}
    metrics, _ = train(config, hardware, cyclic_world(), tmp_path / "made", n_items=40)
    assert metrics["test"]["HR@5"] > 0.98
    assert Ranker.load(tmp_path / "made").top_k([[7, 8], [38, 39]], 1) == [[9], [0]]
    config.options["scale"] = 11
    with pytest.raises(CtrlRecError, match=r"teacher\.options\.scale=11\.0: expected a number between 0 and 10"):
        train(config, hardware, cyclic_world(), tmp_path / "refused", n_items=40)
