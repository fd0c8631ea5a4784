import json

import pytest
import torch

from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.models.sasrec import SASRec

ITEMS, LENGTH = 12, 6


@pytest.fixture
def model() -> SASRec:
    torch.manual_seed(0)
    model = SASRec(ITEMS, LENGTH, embedding=8, layers=2, heads=2, dropout=0.5).double().eval()
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


def test_saved_and_loaded_scores_the_same(model, tmp_path):
    model = model.float()
    model.save(tmp_path)
    history = torch.tensor([[1, 5, 2]])
    loaded = SASRec.load(tmp_path)
    assert torch.equal(loaded.scores(loaded(history)), model.scores(model(history)))
    assert json.loads((tmp_path / "sasrec.json").read_text())["items"] == ITEMS


def test_unusable_files_are_named(model, tmp_path):
    with pytest.raises(CtrlRecError, match=r"sasrec\.json"):
        SASRec.load(tmp_path)
    model.save(tmp_path)
    (tmp_path / "sasrec.json").write_text(json.dumps({**model.sizes, "items": ITEMS + 1}))
    with pytest.raises(CtrlRecError, match="make the teacher stage again"):
        SASRec.load(tmp_path)
    model.save(tmp_path)
    (tmp_path / "sasrec.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CtrlRecError, match=str(tmp_path)):
        SASRec.load(tmp_path)
