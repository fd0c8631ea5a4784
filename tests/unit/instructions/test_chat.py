import gzip
import json
import os
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz, process

from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions.chat import Dialogue, Fault, draw, load_dialogues

HELLO = {"id": "a", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
HELLO_MESSAGES = (("user", "Hi"), ("assistant", "Hello"))
LONG = Dialogue(
    "long",
    (
        ("system", "s"),
        ("user", "u0"),
        ("assistant", "a0"),
        ("user", "u1"),
        ("assistant", "a1"),
        ("user", "u2"),
        ("assistant", "a2"),
    ),
)


def sharegpt(*turns: tuple[object, object]) -> dict[str, object]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# ---------------------------------------------------------------------- formats


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["list", "pretty list", "lines", "lines of Windows"])
def test_every_form_gives_the_same_dialogues(tmp_path: Path, form: str, packed: bool) -> None:
    messages = {"messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]}
    messages["messages"].append({"role": "assistant", "content": "Grüße\u2028!"})
    records = [HELLO, messages]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    text = {
        "list": json.dumps(records),
        "pretty list": json.dumps(records, indent=2, ensure_ascii=False),
        "lines": "\n".join(lines),
        "lines of Windows": "\ufeff" + "\r\n".join([*lines, "", ""]),
    }[form]
    content = text.encode()
    path = tmp_path / ("chat.json.gz" if packed else "chat.json")
    path.write_bytes(gzip.compress(content) if packed else content)
    dialogues, report = load_dialogues(path)
    assert dialogues == [
        Dialogue("a", HELLO_MESSAGES),
        Dialogue("1", (("system", "Be kind"), ("user", "Hi"), ("assistant", "Grüße\u2028!"))),
    ]
    assert (report.source, report.read, report.kept, report.skipped, report.unanswered) == (str(path), 2, 2, {}, 0)


def test_null_columns_beside_filled_ones_are_ignored(tmp_path: Path) -> None:
    turns = [{"from": None, "role": role, "value": None, "content": text} for role, text in HELLO_MESSAGES]
    dialogues, _ = load_dialogues(write(tmp_path / "a.json", [{"id": 7, "conversations": None, "messages": turns}]))
    assert dialogues == [Dialogue("7", HELLO_MESSAGES)]


def test_hub_id_reads_the_named_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        return datasets.Dataset.from_list([HELLO])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for path in ("hub:owner/name", Path("hub:owner/name:train_sft")):
        dialogues, report = load_dialogues(path)
        assert dialogues == [Dialogue("a", HELLO_MESSAGES)]
        assert report.source == str(path)
    assert asked == [("owner/name", "train"), ("owner/name", "train_sft")]


def test_hub_failure_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, split: str) -> None:
        raise RuntimeError("no\nroute")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(CtrlRecError, match=r"hub:owner/name: .*\(no route\).*instructions.chat_path"):
        load_dialogues("hub:owner/name")


# ---------------------------------------------------------------------- broken input

BROKEN = [
    (None, Fault.NOT_A_DIALOGUE),
    ([], Fault.NOT_A_DIALOGUE),
    ({"id": "x"}, Fault.NOT_A_DIALOGUE),
    ({"conversations": "Hi"}, Fault.NOT_A_DIALOGUE),
    ({"conversations": ["Hi", "Hello"]}, Fault.NOT_A_DIALOGUE),
    (sharegpt(("human", "Hi"), ("tool", "{}"), ("gpt", "Hello")), Fault.UNKNOWN_ROLE),
    (sharegpt((None, "Hi"), ("gpt", "Hello")), Fault.UNKNOWN_ROLE),
    (sharegpt((["human"], "Hi"), ("gpt", "Hello")), Fault.UNKNOWN_ROLE),
    (sharegpt(("human", "Hi"), ("gpt", " \n")), Fault.EMPTY_TEXT),
    (sharegpt(("human", "Hi"), ("gpt", None)), Fault.EMPTY_TEXT),
    (sharegpt(("human", "Hi"), ("gpt", 5)), Fault.EMPTY_TEXT),
    (sharegpt(("human", "Hi"), ("gpt", "\ud83d")), Fault.NOT_UNICODE),
    (sharegpt(), Fault.NO_ASSISTANT),
    (sharegpt(("human", "Hi")), Fault.NO_ASSISTANT),
    (sharegpt(("system", "Be kind"), ("human", "Hi")), Fault.NO_ASSISTANT),
    (sharegpt(("gpt", "Hello"), ("human", "Hi"), ("gpt", "Yes?")), Fault.NOT_USER_FIRST),
    (sharegpt(("system", "Be kind"), ("gpt", "Hello")), Fault.NOT_USER_FIRST),
    (sharegpt(("human", "Hi"), ("human", "there"), ("gpt", "Hello")), Fault.NOT_ALTERNATING),
    (sharegpt(("human", "Hi"), ("gpt", "Hello"), ("gpt", "!")), Fault.NOT_ALTERNATING),
    (sharegpt(("human", "Hi"), ("system", "Be kind"), ("gpt", "Hello")), Fault.NOT_ALTERNATING),
    (sharegpt(("system", "a"), ("system", "b"), ("human", "Hi"), ("gpt", "Hello")), Fault.NOT_USER_FIRST),
]


@pytest.mark.parametrize(("record", "fault"), BROKEN)
def test_a_broken_dialogue_is_skipped_and_counted(tmp_path: Path, record: object, fault: Fault) -> None:
    dialogues, report = load_dialogues(write(tmp_path / "a.json", [record, HELLO, record]))
    assert dialogues == [Dialogue("a", HELLO_MESSAGES)]
    assert (report.read, report.kept, report.skipped) == (3, 1, {fault: 2})
    assert f"1 of 3 dialogues kept; 2 skipped: {fault}" in str(report)


@pytest.mark.parametrize("line", ["{oops", "[" * 100_000, "9" * 10_000, '{"conversations": [{"from": "human", "val'])
def test_a_damaged_line_is_skipped_and_counted(tmp_path: Path, line: str) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join([json.dumps(HELLO), line, json.dumps(HELLO), line]), encoding="utf-8")
    dialogues, report = load_dialogues(path)
    assert dialogues == [Dialogue("a", HELLO_MESSAGES)] * 2
    assert (report.read, report.kept, report.skipped) == (4, 2, {Fault.NOT_JSON: 2})


def test_every_fault_is_tested() -> None:
    assert {fault for _, fault in BROKEN} == set(Fault) - {Fault.NOT_JSON}


def test_an_unanswered_last_turn_is_cut_and_counted(tmp_path: Path) -> None:
    record = sharegpt(("human", "Hi"), ("gpt", "Hello"), ("human", "Bye"))
    dialogues, report = load_dialogues(write(tmp_path / "a.json", [record]))
    assert dialogues == [Dialogue("0", HELLO_MESSAGES)]
    assert (report.kept, report.unanswered) == (1, 1)
    assert "1 cut" in str(report)


GOOD_LINE = json.dumps(HELLO).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 of 0 dialogues kept"),
        (b"[]", "0 of 0 dialogues kept"),
        (b"{}", "0 of 1 dialogues kept; 1 skipped: no list of turns"),
        (b"\n{oops\n" + GOOD_LINE, "line 2: not JSON"),
        (b"[\n" + GOOD_LINE + b",\n{oops}]", "line 4: not JSON"),
        (GOOD_LINE[:-10], "line 1: not JSON"),
        (GOOD_LINE + b'{"id": "\xff"}', "line 2: not UTF-8"),
        (json.dumps(HELLO).encode("utf-16"), "line 1: not UTF-8"),
        (b"{" + b'"a":[' * 100_000, "line 1: not JSON"),
        (b"9" * 10_000, "line 1: not JSON"),
        (gzip.compress(GOOD_LINE, mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(GOOD_LINE, mtime=0)[:12] + b"\x00" * 50, "damaged gzip"),
        (b"\x1f\x8b", "damaged gzip"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_bytes(content)
    with pytest.raises(CtrlRecError) as caught:
        load_dialogues(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["absent.json", ".", "nul\0.json"])
def test_a_path_that_is_no_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(CtrlRecError, match=r"chat_path"):
        load_dialogues(tmp_path / name)


TEXTS = st.sampled_from(["Hi", "", " ", "\ud800", "12. Grüße\n"])
ROLES = st.sampled_from(["human", "gpt", "user", "assistant", "system", "tool"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
TURNS = st.fixed_dictionaries({"from": ROLES | SCALARS, "value": TEXTS | SCALARS}) | SCALARS
RECORDS = st.dictionaries(st.sampled_from(["id", "conversations", "messages"]), st.lists(TURNS) | SCALARS) | SCALARS


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(RECORDS).map(lambda records: json.dumps(records).encode()),
        st.lists(RECORDS).map(lambda records: "\n".join(map(json.dumps, records)).encode()),
        st.binary(max_size=40).map(lambda tail: gzip.compress(GOOD_LINE)[:20] + tail),
    )
)
def test_any_file_gives_sound_dialogues_or_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fuzz.json"
    path.write_bytes(content)
    try:
        dialogues, report = load_dialogues(path)
    except CtrlRecError:
        return
    assert report.kept == len(dialogues) == report.read - sum(report.skipped.values())
    for dialogue in dialogues:
        assert_sound(dialogue)


def assert_sound(dialogue: Dialogue) -> None:
    roles = [role for role, _ in dialogue.messages]
    spoken = roles[roles[0] == "system" :]
    assert spoken == ["user", "assistant"] * (len(spoken) // 2) != []
    assert all(text.strip() and text.encode() for _, text in dialogue.messages)
    assert dialogue.id.encode() is not None


# ---------------------------------------------------------------------- drawing


def test_draw_takes_every_answer_with_its_whole_context_when_all_fits() -> None:
    rng = np.random.default_rng(0)
    samples = {draw([LONG], rng, lambda messages, response: True) for _ in range(50)}
    assert samples == {(LONG.messages[:2], "a0"), (LONG.messages[:4], "a1"), (LONG.messages[:6], "a2")}


@pytest.mark.parametrize("limit", range(1, 8))
def test_draw_drops_the_oldest_turns_and_keeps_the_system_turn(limit: int) -> None:
    for seed in range(20):
        drawn = draw([LONG], np.random.default_rng(seed), lambda messages, response: len(messages) <= limit)
        if limit < 2:
            assert drawn is None
            continue
        assert drawn is not None
        context, response = drawn
        answer = LONG.messages.index(("assistant", response))
        assert context[0] == LONG.messages[0]
        assert context[1][0] == context[-1][0] == "user"
        assert context[1:] == LONG.messages[answer + 1 - len(context) : answer]
        assert len(context) == min(answer, limit - limit % 2)


def test_draw_measures_no_more_than_one_context_beyond_the_limit() -> None:
    turns = tuple((role, f"{turn}") for turn in range(500) for role in ("user", "assistant"))
    measured: list[int] = []

    def fits(messages: object, response: str) -> bool:
        measured.append(len(messages))  # type: ignore[arg-type]
        return len(messages) <= 5  # type: ignore[arg-type]

    drawn = draw([Dialogue("x", turns)], np.random.default_rng(3), fits)
    assert drawn is not None
    assert measured == [1, 3, 5, 7]


def test_draw_is_none_where_the_response_does_not_fit() -> None:
    assert draw([LONG], np.random.default_rng(0), lambda messages, response: len(response) < 2) is None


def test_draw_follows_the_generator_and_reaches_every_dialogue() -> None:
    dialogues = [Dialogue(str(i), (("user", f"q{i}"), ("assistant", f"a{i}"))) for i in range(10)]

    def run(seed: int) -> list[object]:
        rng = np.random.default_rng(seed)
        return [draw(dialogues, rng, lambda messages, response: True) for _ in range(200)]

    assert run(5) == run(5) != run(6)
    counts = Counter(sample[1] for sample in run(5))  # type: ignore[index]
    assert len(counts) == 10
    assert min(counts.values()) > 5


# ---------------------------------------------------------------------- real files


def test_the_shipped_dialogues() -> None:
    dialogues, report = load_dialogues(None)
    assert (report.source, report.read, report.kept, report.skipped, report.unanswered) == ("shipped", 300, 300, {}, 0)
    for dialogue in dialogues:
        assert_sound(dialogue)
        assert 2 <= len(dialogue.messages) <= 6
        for role, text in dialogue.messages:
            assert text == text.strip()
            assert len(text) <= (300 if role == "user" else 260)
    assert len({dialogue.id for dialogue in dialogues}) == 300
    whole = ["\n".join(text for _, text in dialogue.messages).lower() for dialogue in dialogues]
    openings = [dialogue.messages[0][1].lower() for dialogue in dialogues]
    for texts, most_alike in ((whole, 65), (openings, 80)):
        likeness = process.cdist(texts, texts, scorer=fuzz.ratio)
        np.fill_diagonal(likeness, 0)
        assert likeness.max() < most_alike, texts[int(likeness.argmax()) // len(texts)]


def test_a_published_file_of_sharegpt_dialogues() -> None:
    path = Path(os.environ.get("CTRLREC_DATA", "absent")) / "chat" / "dummy_conversation.json"
    if not path.is_file():
        pytest.skip("CTRLREC_DATA holds no chat/dummy_conversation.json")
    dialogues, report = load_dialogues(path)
    assert report.kept == report.read == len(dialogues) > 0
    for dialogue in dialogues:
        assert_sound(dialogue)
