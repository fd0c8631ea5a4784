import pytest

from ctrlrec import tracking
from ctrlrec.config import compose


@pytest.mark.parametrize(
    ("precision", "native", "warned"),
    [("bf16-mixed", False, True), ("bf16-mixed", True, False), ("auto", False, False)],
)
def test_emulated_bfloat16_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, precision: str, native: bool, warned: bool
) -> None:
    monkeypatch.setattr(tracking, "native_bfloat16", lambda: native)
    words = (f"trainer.precision={precision}", "trainer.accelerator=cpu", "trainer.matmul_precision=highest")
    tracking.prepare_hardware(compose(*words).trainer)
    assert ("bfloat16 units" in caplog.text) == warned
