"""Batches of SL: a function of (seed, step), packed, loss on the response alone."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.sl.data import SLData
from ctrlrec.sl.stream import IGNORED, Layout, MicroBatch, Row, Steps, TrainingStream, collate, encode, split

FAMILIES = ("sequential", "category")


@pytest.fixture
def make_stream(
    make_builder: Callable[..., InstructionBuilder], chat_format: ChatFormat
) -> Callable[..., TrainingStream]:
    def make(batch: int = 8, micro: int = 3, **changes) -> TrainingStream:
        return TrainingStream(make_builder(**changes), FAMILIES, chat_format, batch, micro, "packed")

    return make


def rows_of(batches: list[MicroBatch]) -> Counter[tuple[int, ...]]:
    """Of every sample its tokens, as positions that start again part them."""
    found: Counter[tuple[int, ...]] = Counter()
    for batch in batches:
        for ids, mask, positions in zip(batch.ids, batch.mask.bool(), batch.positions, strict=True):
            starts = [*torch.nonzero((positions == 0) & mask)[:, 0].tolist(), int(mask.sum())]
            found.update(tuple(ids[begin:end].tolist()) for begin, end in pairwise(starts))
    return found


def equal(one: list[MicroBatch], other: list[MicroBatch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.ids, b.ids) and torch.equal(a.mask, b.mask) and torch.equal(a.labels, b.labels)
        for a, b in zip(one, other, strict=True)
    )


def test_labels_are_the_response_and_its_end(builder: InstructionBuilder, chat_format: ChatFormat) -> None:
    examples = builder.epoch(0, FAMILIES)[:6]
    batch = collate(encode(examples, chat_format), chat_format.pad, "padded")
    for row, example in enumerate(examples):
        labelled = batch.labels[row] != IGNORED
        learnt = batch.labels[row][labelled]
        assert torch.equal(batch.ids[row][labelled], learnt)
        assert chat_format.tokenizer.decode(learnt) == example.response + "<|end|>"
        whole = chat_format.tokenizer.decode(batch.ids[row][batch.mask[row].bool()])
        assert whole == chat_format.text(example.instruction.messages) + example.response + "<|end|>"
        # The response stands at the end of the row's real tokens, in one piece.
        places = torch.nonzero(labelled)[:, 0].tolist()
        assert places == list(range(places[0], int(batch.mask[row].sum())))


def test_padded_micro_batches_are_sorted_by_length_and_hold_every_row(
    builder: InstructionBuilder, chat_format: ChatFormat
) -> None:
    rows = encode(builder.epoch(0, FAMILIES), chat_format)
    batches = split(rows, 7, chat_format.pad, "padded")
    assert [len(batch.ids) for batch in batches] == [7] * 7 + [1]
    lengths = [int(row.sum()) for batch in batches for row in batch.mask]
    assert lengths == sorted(lengths)
    assert rows_of(batches) == Counter(tuple(row.prompt + row.response) for row in rows)
    assert all(int(batch.mask.sum(1).max()) == batch.ids.shape[1] for batch in batches)
    # Rows that count through need no mask.
    assert all(torch.equal(row, torch.arange(len(row))) for batch in batches for row in batch.positions)


def test_packed_micro_batches_hold_every_sample_in_fewer_rows() -> None:
    rows = [Row([length] * length, [length, 0]) for length in (3, 18, 5, 2, 8, 8, 3)]
    batches = split(rows, 4, 99, "packed")
    assert [int((batch.mask.bool() & (batch.positions == 0)).sum()) for batch in batches] == [4, 3]
    assert rows_of(batches) == Counter(tuple(row.prompt + row.response) for row in rows)
    for batch in batches:
        assert torch.equal(batch.labels != IGNORED, (batch.ids == 0) | (batch.labels == batch.ids))
        assert (batch.ids[batch.mask == 0] == 99).all()
        # Padding is not a sample: it continues the positions of the last one.
        assert not (batch.positions[batch.mask == 0] == 0).any()
    # Samples of 20, 10, 5 and 4 tokens take two rows: the last three share one. Of 10, 7 and 5 none fit together.
    assert [tuple(batch.ids.shape) for batch in batches] == [(2, 20), (3, 10)]


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("budget", [1, 60, 300, 900, 10**6])
def test_a_budget_of_tokens_holds_and_is_used(
    builder: InstructionBuilder, chat_format: ChatFormat, layout: Layout, budget: int
) -> None:
    rows = encode(builder.epoch(0, FAMILIES), chat_format)
    batches = split(rows, 3, chat_format.pad, layout, budget)
    assert rows_of(batches) == Counter(tuple(row.prompt + row.response) for row in rows)
    for batch in batches:
        samples = int((batch.mask * (batch.positions == 0)).sum())
        assert batch.ids.numel() <= budget or samples == 1
    tokens = sum(len(row.prompt + row.response) for row in rows)
    assert len(batches) <= 2 * -(-tokens // budget) or budget < 300
    assert (len(batches) == 1) == (budget == 10**6)


def test_a_step_is_a_function_of_seed_and_step(make_stream: Callable[..., TrainingStream]) -> None:
    """Resuming at any step, or looking at steps out of order, gives the same batches."""
    stream = make_stream()
    assert stream.steps_per_epoch == 50 // 8
    batches = {step: stream.batch(step) for step in range(14)}
    fresh = make_stream()
    for step in (13, 2, 6, 0, 7):
        assert equal(fresh.batch(step), batches[step])
    assert not equal(make_stream(seed=4).batch(0), batches[0])
    assert equal(Steps(fresh, range(5, 8))[1], batches[6])
    assert len(Steps(fresh, range(5, 8))) == 3


def test_micro_batch_size_changes_no_row(make_stream: Callable[..., TrainingStream]) -> None:
    assert rows_of(make_stream(micro=3).batch(9)) == rows_of(make_stream(micro=8).batch(9))


def test_an_epoch_uses_an_example_at_most_once_and_epochs_differ(make_stream: Callable[..., TrainingStream]) -> None:
    stream = make_stream()
    first = sum((rows_of(stream.batch(step)) for step in range(6)), Counter())
    second = sum((rows_of(stream.batch(step)) for step in range(6, 12)), Counter())
    everything = Counter(
        tuple(row.prompt + row.response) for row in encode(stream.builder.epoch(0, FAMILIES), stream.chat_format)
    )
    assert first.total() == 48
    assert not first - everything
    assert first != second


def test_a_batch_larger_than_an_epoch_is_the_epoch(make_stream: Callable[..., TrainingStream]) -> None:
    stream = make_stream(batch=80)
    assert stream.steps_per_epoch == 1
    assert rows_of(stream.batch(0)).total() == 50


def test_workers_change_no_batch(builder: InstructionBuilder, chat_format: ChatFormat) -> None:
    """Nine steps in three intervals, over the border of an epoch, with other random numbers drawn in between."""
    found = []
    for workers in (0, 2, 3):
        stream = TrainingStream(builder, ("sequential",), chat_format, 8, 3, "packed")
        assert stream.steps_per_epoch < 9
        data = SLData(stream, [], 9, 3, workers)
        batches = []
        for interval in range(3):
            data.trainer = SimpleNamespace(current_epoch=interval)  # type: ignore[assignment]
            batches += list(data.train_dataloader())
            torch.rand(workers + 1)
        found.append(batches)
    assert len(found[0]) == 9
    for other in found[1:]:
        for expected, batch in zip(found[0], other, strict=True):
            for micro, same in zip(expected, batch, strict=True):
                for name in ("ids", "mask", "labels", "positions"):
                    assert torch.equal(getattr(micro, name), getattr(same, name))


def test_what_a_worker_meets_is_raised_in_one_line(
    builder: InstructionBuilder, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = TrainingStream(builder, ("sequential",), chat_format, 8, 3, "packed")

    def batch(step: int) -> list[MicroBatch]:
        raise CtrlRecError(f"step {step}: bad; mend it")

    monkeypatch.setattr(stream, "batch", batch)
    data = SLData(stream, [], 4, 1, 1)
    data.trainer = SimpleNamespace(current_epoch=0)  # type: ignore[assignment]
    (met, *_) = data.train_dataloader()
    with pytest.raises(CtrlRecError, match=r"^step 0: bad; mend it$"):
        data.transfer_batch_to_device(met, torch.device("cpu"), 0)
