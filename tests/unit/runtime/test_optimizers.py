"""Adam in one kernel."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ctrlrec.rl import schedule
from ctrlrec.runtime.optimizers import fused
from ctrlrec.sl import module, optimizers
from ctrlrec.sl.optimizers import Muon


def lying(*devices: str) -> list[Any]:
    return [SimpleNamespace(device=torch.device(device)) for device in devices]


def test_one_kernel_is_for_weights_on_gpus() -> None:
    assert fused(lying("cuda:0", "cuda:1")) is True
    assert fused([{"params": lying("cuda")}, {"params": []}, {"params": lying("cuda")}]) is True
    assert fused(lying("cuda", "cpu")) is None
    assert fused([torch.nn.Parameter(torch.zeros(2))]) is None
    assert fused([{"params": lying("cuda")}, {"params": lying("cpu")}]) is None


def steps(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter]) -> torch.Tensor:
    torch.manual_seed(1)
    for _ in range(20):
        for weight in weights:
            weight.grad = torch.randn_like(weight) * 10 ** float(torch.randint(-3, 3, ()))
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in weights])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(torch.optim.Adam, {"eps": 1e-5}), (torch.optim.Adam, {}), (torch.optim.AdamW, {"weight_decay": 0.1})],
)
def test_one_kernel_does_what_many_do(kind: Any, settings: dict[str, float]) -> None:
    results = []
    for choice in (None, True):
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((7, 5), (11,), ())]
        groups = [{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "lr": 0.01}]
        results.append(steps(kind(groups, fused=choice, **settings), weights))
    assert torch.allclose(*results, rtol=1e-6, atol=1e-6)


def test_every_optimiser_takes_what_the_device_has(
    monkeypatch: pytest.MonkeyPatch, make_rl_config: Any, make_sl_config: Any
) -> None:
    """A CPU has the kernel as well, so that a GPU's choice can be tried on one; Muon moves its matrices itself."""
    weights = {f"{name}.weight": torch.nn.Parameter(torch.randn(4, 4)) for name in ("a.actor", "a.critic")}
    model = torch.nn.Linear(3, 3)

    def made() -> list[torch.optim.Optimizer]:
        return [
            *schedule.optimizers(make_rl_config(), weights, critic=True)[0],
            *module.SupervisedModule(model, make_sl_config(), 5, 0).configure_optimizers()[0],
            Muon([model.weight], [model.bias], 0.1, 0.1),
        ]

    assert [one.defaults["fused"] for one in made()] == [None] * 3
    for where in (schedule, module, optimizers):
        monkeypatch.setattr(where, "fused", lambda _: True)
    assert [one.defaults["fused"] for one in made()] == [True] * 3
    assert torch.isfinite(steps(made()[2], list(model.parameters()))).all()
