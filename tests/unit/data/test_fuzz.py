"""Whatever lies in a file: a loader gives a legal dataset or one clear error, and never hangs or fills the memory."""

import gzip
import json
import tempfile
import zipfile
from pathlib import Path

import pytest
from dataset_files import all_writable, config, items, records, uncut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctrlrec.data import files
from ctrlrec.data.prepare import prepare
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions.chat import load_dialogues

_LITERAL = "{{u'username': u'a', u'product_id': u'i{n}', u'date': u'2017-12-0{n}'}}\n"
_GAME = "{{u'id': u'i{n}', u'title': u'T {n}', u'tags': [u'C', u'D']}}\n"
_META = "{{'asin': 'i{n}', 'title': 'T {n}', 'categories': [['Root', 'C', 'D']]}}\n"
_REVIEW = '{{"reviewerID": "a", "asin": "i{n}", "unixReviewTime": {n}}}\n'
_RECBOLE = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
# Of every source: name and content of the interactions file, then of the items file.
SOURCES = {
    "records": (
        ("interactions.csv", "user,item,timestamp\na,i1,1\na,i2,2\na,i3,3\n"),
        ("items.jsonl", "".join(f"{line}\n" for line in items(4))),
    ),
    "movielens_csv": (
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,1,5,1\n1,2,4,2\n1,3,3,3\n"),
        ("movies.csv", 'movieId,title,genres\n1,"A, The",C|D\n2,B,C\n3,E,(no genres listed)\n'),
    ),
    "movielens_1m": (
        ("ratings.dat", "1::1::5::1\n1::2::4::2\n1::3::3::3\n"),
        ("movies.dat", "1::A::C|D\n2::B::C\n3::E::D\n"),
    ),
    "movielens_100k": (
        ("ml-100k.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t1\t5\t1\n1\t2\t4\t2\n"),
        ("ml-100k.item", _RECBOLE + "1\tA\t1995\tC D\n2\tB\t1996\tC\n"),
    ),
    "steam": (
        ("steam_reviews.json", "".join(_LITERAL.format(n=n) for n in range(1, 4))),
        ("steam_games.json", "".join(_GAME.format(n=n) for n in range(1, 4))),
    ),
    "amazon": (
        ("reviews_X_5.json", "".join(_REVIEW.format(n=n) for n in range(1, 4))),
        ("meta_X.json", "".join(_META.format(n=n) for n in range(1, 4))),
    ),
}
_HOSTILE = (
    b"\0", b"\xff", b"\xed\xa0\x80", b"\r", b"\n\n", b'"', b"'", b"\\", b"\\ud83d", b"::", b"|", b"\t", b",",
    b"[" * 300, b"{" * 300, b"-" * 300, b"9" * 5000, b"1e999", b"NaN", b"-9223372036854775809", b"\xef\xbb\xbf",
    b"\x1f\x8b", b"PK\x03\x04",
    b"__import__('os').system('false')", b"!!python/object/apply:os.system ['false']", b"</s><|end|>", b"\xe2\x80\xa8",
    b"null", b"true", b"0x10", b"{}", b"99999-99-99", b"cos\nsystem\n(S'false'\ntR.",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, content: str) -> bytes:
    """A sound file after a few cuts, repetitions and insertions, perhaps packed; or something else altogether."""
    data = content.encode()
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 30)))
        new = draw(st.sampled_from(_HOSTILE) | st.binary(max_size=4) | st.just(data[start:end] * 2))
        data = data[:start] + new + data[end:]
    if draw(st.integers(0, 3)) == 0:
        data = gzip.compress(data)
        if draw(st.booleans()):
            data = data[: draw(st.integers(0, len(data)))]
    return data


@pytest.mark.parametrize("source", SOURCES)
def test_loaders_give_a_legal_dataset_or_one_error(source: str) -> None:
    logs, metadata = SOURCES[source]

    @given(st.data())
    @settings(max_examples=60, deadline=5000, suppress_health_check=list(HealthCheck))
    def check(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "in"
            folder.mkdir()
            for name, content in (logs, metadata):
                (folder / name).write_bytes(data.draw(damaged(content)))
            place = folder
            if data.draw(st.booleans()) and source.startswith("movielens"):
                place = Path(scratch) / "in.zip"
                with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
                    for name, _ in (logs, metadata):
                        archive.write(folder / name, f"../../{name}")  # a member is read, never unpacked
                packed = place.read_bytes()
                place.write_bytes(packed[: data.draw(st.integers(len(packed) - 40, len(packed)))])
            category = "X" if source == "amazon" else None
            try:
                prepared = prepare(
                    config(source, place, category=category), Path(scratch) / "cache", uncut, all_writable
                )
            except CtrlRecError as error:
                assert len(str(error)) < 2000
                assert str(error).isprintable() or "\n" not in str(error)
                return
            assert {path.name for path in Path(scratch).iterdir()} <= {"in", "in.zip", "cache"}
            catalogue = prepared.catalogue
            assert len(set(catalogue.titles)) == len(catalogue) > 0
            for title in catalogue.titles:
                assert title == title.strip() != ""
                assert not set(title) & set("\n\r\t\u2028\u2029\x85")
                title.encode()
            assert all(names and all(names) for names in catalogue.categories)
            assert prepared.sequences.items.max() < len(catalogue)

    check()


_CHAT = json.dumps([{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}])


@given(damaged(_CHAT))
@settings(max_examples=300, deadline=5000)
def test_chat_files_give_dialogues_or_one_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "chat.json"
        path.write_bytes(data)
        try:
            dialogues, report = load_dialogues(path)
        except CtrlRecError:
            return
        assert len(dialogues) == report.kept > 0
        for dialogue in dialogues:
            assert dialogue.messages[-1][0] == "assistant"
            assert all(text.strip() and text.encode() for _, text in dialogue.messages)


@pytest.mark.parametrize(
    ("name", "first"), [("interactions.csv", b"user,item,timestamp\n"), ("items.jsonl", items(1)[0].encode())]
)
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, name, first) -> None:
    monkeypatch.setattr(files, "_UNPACKED_BYTES", 1 << 20)
    records(tmp_path, [("a", f"i{n}", n) for n in range(3)], items(3))
    (tmp_path / name).write_bytes(gzip.compress(first + b"\n" * (64 << 20)))
    with pytest.raises(CtrlRecError, match=rf"{name}: unpacks to more than"):
        prepare(config("records", tmp_path), tmp_path / "cache", uncut, all_writable)


def test_a_zip_bomb_and_a_locked_archive_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "_UNPACKED_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratings.dat", b"1::1::5::1\n" * (8 << 20))
        archive.writestr("movies.dat", b"1::A::C\n")
    with pytest.raises(CtrlRecError, match=r"bomb\.zip!ratings\.dat: claims to unpack to"):
        prepare(config("movielens_1m", tmp_path / "bomb.zip"), tmp_path / "cache", uncut, all_writable)
    locked = bytearray((tmp_path / "bomb.zip").read_bytes())
    for at in (locked.index(b"PK\x03\x04") + 6, locked.index(b"PK\x01\x02") + 8):
        locked[at] |= 1  # the flag of a password
    (tmp_path / "locked.zip").write_bytes(locked)
    monkeypatch.setattr(files, "_UNPACKED_BYTES", 1 << 30)
    with pytest.raises(CtrlRecError, match=r"locked\.zip: not a whole plain zip archive"):
        prepare(config("movielens_1m", tmp_path / "locked.zip"), tmp_path / "cache", uncut, all_writable)


def test_a_chat_bomb_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "_UNPACKED_BYTES", 1 << 20)
    (tmp_path / "chat.json").write_bytes(gzip.compress(b" " * (64 << 20)))
    with pytest.raises(CtrlRecError, match="unpacks to more than"):
        load_dialogues(tmp_path / "chat.json")


def test_a_folder_in_a_files_place_is_named(tmp_path) -> None:
    records(tmp_path, [("a", "i0", 1)], items(1))
    (tmp_path / "interactions.csv").unlink()
    (tmp_path / "interactions.csv").mkdir()
    with pytest.raises(CtrlRecError, match=r"no interactions\.csv or .* it holds interactions\.csv/, items\.jsonl"):
        prepare(config("records", tmp_path), tmp_path / "cache", uncut, all_writable)
