"""Muon beside Adam."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from ctrlrec.sl.module import SupervisedModule
from ctrlrec.sl.optimizers import Muon, orthogonal


@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 6, 20), (2, 20, 6)])
def test_a_move_keeps_the_singular_vectors_and_evens_their_values(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(*shape) * 37
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    moved = torch.linalg.svdvals(orthogonal(matrices))
    assert float(moved.max()) < 1.3 and float(moved[values > values.amax(1, keepdim=True) / 10].min()) > 0.6
    within = left.mT @ orthogonal(matrices) @ right.mT
    assert torch.allclose(within, torch.diag_embed(within.diagonal(dim1=1, dim2=2)), atol=1e-4)


def test_other_weights_move_as_under_adam_and_a_saved_state_goes_on() -> None:
    torch.manual_seed(1)
    matrix, vector = torch.randn(6, 4, requires_grad=True), torch.randn(5, requires_grad=True)
    alone = vector.detach().clone().requires_grad_()
    both, adam = Muon([matrix], [vector], 0.01, 0.02), torch.optim.Adam([alone], lr=0.01)
    gradients = [(torch.randn(6, 4), torch.randn(5)) for _ in range(4)]
    middle: dict[str, Any] = {}
    for number, (of_matrix, of_vector) in enumerate(gradients):
        if number == 2:
            middle = {"state": copy.deepcopy(both.state_dict()), "matrix": matrix.detach().clone()}
            middle["vector"] = vector.detach().clone()
        matrix.grad, vector.grad, alone.grad = of_matrix.clone(), of_vector.clone(), of_vector.clone()
        both.step()
        adam.step()
    assert torch.equal(vector, alone)
    resumed = Muon([middle["matrix"].requires_grad_()], [middle["vector"].requires_grad_()], 0.01, 0.02)
    resumed.load_state_dict(middle["state"])
    for of_matrix, of_vector in gradients[2:]:
        middle["matrix"].grad, middle["vector"].grad = of_matrix.clone(), of_vector.clone()
        resumed.step()
    assert torch.equal(middle["matrix"], matrix) and torch.equal(middle["vector"], vector)


def test_the_first_move_of_a_square_matrix_is_by_its_rate_in_every_direction() -> None:
    torch.manual_seed(2)
    matrix = torch.zeros(8, 8, requires_grad=True)
    matrix.grad = torch.randn(8, 8)
    Muon([matrix], [], 1.0, 0.02).step()
    values = torch.linalg.svdvals(matrix.detach())
    assert 0.02 * 0.6 < float(values.median()) < 0.02 * 1.3


def test_only_matrices_inside_layers_learn_by_muon(
    make_model: Callable[..., PreTrainedModel], make_sl_config: Callable[..., Any]
) -> None:
    model = make_model()
    module = SupervisedModule(model, make_sl_config(muon_learning_rate=0.02), 5, 0)
    ([optimizer], _) = module.configure_optimizers()
    names = {id(weight): name for name, weight in model.named_parameters()}
    by_kind = {group["orthogonal"]: {names[id(one)] for one in group["params"]} for group in optimizer.param_groups}
    assert by_kind[True] == {name for name in names.values() if "_proj" in name}
    assert by_kind[False] == set(names.values()) - by_kind[True]
    assert "model.embed_tokens.weight" in by_kind[False]
