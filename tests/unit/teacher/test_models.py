"""What every teacher keeps to; and what is SASRec's alone."""

import json

import pytest
import torch
from teacher_worlds import OPTIONS

from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.models import TEACHERS, load_teacher, make_teacher
from ctrlrec.teacher.models.base import TeacherModel

ITEMS, LENGTH = 12, 6


@pytest.fixture(params=OPTIONS)
def model(request, settings) -> TeacherModel:
    torch.manual_seed(0)
    model = make_teacher(settings(model=request.param, embedding=8, layers=2, dropout=0.5), ITEMS, LENGTH)
    model = model.double().eval()
    for name, weight in model.named_parameters():  # away from the small initial weights, so that every part matters
        if "norm" not in name and name != "item_embedding.weight":
            torch.nn.init.normal_(weight, std=0.5)
    return model


def test_later_items_do_not_change_earlier_states(model):
    first, second = torch.randint(0, ITEMS, (2, 4, LENGTH))
    for cut in range(1, LENGTH):
        mixed = torch.cat([first[:, :cut], second[:, cut:]], dim=1)
        torch.testing.assert_close(model(mixed)[:, :cut], model(first)[:, :cut])


def test_earlier_items_do_change_later_states(model):
    first = torch.arange(LENGTH)[None]
    for position in range(LENGTH):
        other = first.clone()
        other[0, position] = ITEMS - 1
        assert (model(other) - model(first))[0, position:].abs().amax(1).gt(1e-6).all()


def test_order_of_the_history_matters(model):
    assert not torch.allclose(model(torch.tensor([[1, 2, 3]]))[:, -1], model(torch.tensor([[2, 1, 3]]))[:, -1])


def test_padding_changes_nothing(model):
    history = torch.tensor([[3, 1, 4]])
    padded = torch.full((1, LENGTH), ITEMS)
    padded[:, :3] = history
    torch.testing.assert_close(model(padded)[:, :3], model(history))


def test_a_window_asks_every_shorter_history(model):
    window = torch.tensor([[5, 3, 8, 1, 0, 2]])
    states = model(window)[0]
    for size in range(1, LENGTH + 1):
        torch.testing.assert_close(model(window[:, :size])[0, -1], states[size - 1])


@pytest.mark.parametrize("length", [1, 4, LENGTH])
def test_the_newest_state_alone_is_that_of_the_whole_pass(model, length):
    histories = torch.randint(0, ITEMS, (40, length))
    torch.testing.assert_close(model.newest(histories), model(histories)[:, -1])


def test_loss_is_the_full_softmax_at_every_position_with_a_target(model):
    histories = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, ITEMS, ITEMS, ITEMS, ITEMS]])
    targets = torch.tensor([[2, 3, 4, 5, 6, 7], [8, ITEMS, ITEMS, ITEMS, ITEMS, ITEMS]])
    states = model(histories).detach()
    losses = []
    for row, position in [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0)]:
        logits = [float(states[row, position] @ model.item_embedding.weight[item]) for item in range(ITEMS)]
        total = sum(torch.tensor(logits, dtype=torch.float64).exp())
        losses.append(-torch.log(torch.tensor(logits[targets[row, position]], dtype=torch.float64).exp() / total))
    torch.testing.assert_close(model.loss(histories, targets), torch.stack(losses).mean())


def test_every_weight_but_the_padding_row_learns(model):
    model.loss(torch.tensor([[1, 2, 3, ITEMS]]), torch.tensor([[2, 3, 4, ITEMS]])).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name
    assert not model.item_embedding.weight.grad[ITEMS].any()


def test_every_teacher_is_tested_here():
    assert OPTIONS.keys() == TEACHERS.keys()


def test_histories_of_all_lengths_are_scored_as_each_alone(model):
    histories = [[1, 2, 3], [4], [9, 8, 7, 6, 5, 0], [2], [3, 2, 1]]
    together = model.scores_after(histories)
    for history, row in zip(histories, together, strict=True):
        torch.testing.assert_close(row, model.scores(model(torch.tensor([history]))[0, -1]))


def test_saved_and_loaded_scores_the_same(model, tmp_path):
    model = model.float()
    model.save(tmp_path)
    loaded = load_teacher(tmp_path)
    assert type(loaded) is type(model) and loaded.options == model.options and not loaded.training
    assert torch.equal(loaded.scores_after([[1, 5, 2], [3]]), model.scores_after([[1, 5, 2], [3]]))
    said = json.loads((tmp_path / "teacher_model.json").read_text())
    assert TEACHERS[said["model"]] is type(model) and said["items"] == ITEMS and said["options"]["embedding"] == 8


def test_unusable_files_are_named(model, tmp_path):
    description = tmp_path / "teacher_model.json"
    with pytest.raises(CtrlRecError, match=r"teacher_model\.json"):
        load_teacher(tmp_path)
    model.save(tmp_path)
    made = json.loads(description.read_text())
    for wrong in ({"items": ITEMS + 1}, {"model": "grurec"}, {"options": {"embedding": 8}}):
        description.write_text(json.dumps(made | wrong))
        with pytest.raises(CtrlRecError, match="make the teacher stage again"):
            load_teacher(tmp_path)
    model.save(tmp_path)
    (tmp_path / "teacher.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CtrlRecError, match=str(tmp_path)):
        load_teacher(tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"heeds": 2}, r"unknown key 'teacher\.options\.heeds': did you mean 'heads'\?"),
        ({"hidden": 2}, r"unknown key 'teacher\.options\.hidden': valid: embedding, layers, heads, dropout"),
        ({"layers": 0}, r"teacher\.options\.layers=0: expected a number at least 1"),
        ({"dropout": 1.0}, r"teacher\.options\.dropout=1\.0: expected a number between 0 and 0\.99"),
        ({"layers": "two"}, r"teacher\.options\.layers: "),
        ({"heads": 3}, r"teacher\.options\.embedding must be divisible by teacher\.options\.heads"),
    ],
)
def test_options_that_the_model_does_not_have_are_refused(settings, changed, said):
    config = settings()
    config.options |= changed
    with pytest.raises(CtrlRecError, match=said):
        make_teacher(config, ITEMS, LENGTH)


def test_a_missing_option_is_named(settings):
    config = settings()
    del config.options["heads"]
    with pytest.raises(CtrlRecError, match=r"no value for teacher\.options\.heads"):
        make_teacher(config, ITEMS, LENGTH)
