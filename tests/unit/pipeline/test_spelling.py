"""The data stage keeps only what the backbone's tokenizer gives back as it was."""

import json
import string
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ctrlrec.config.compose import compose
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.backbone import load_tokenizer
from ctrlrec.lm.parsing import written_items
from ctrlrec.pipeline import data

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def like_t5(texts: list[str]) -> PreTrainedTokenizerFast:
    """No { } < nor anything but ASCII, characters rewritten (NFKC), as T5's."""
    raw = Tokenizer(models.Unigram())
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    alphabet = [string.ascii_letters + string.digits + " .,:;'\"!?-()&"] * 20
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    raw.train_from_iterator(alphabet, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def like_qwen(texts: list[str]) -> PreTrainedTokenizerFast:
    """Bytes, composed before they are read (NFC), as Qwen's."""
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")


Run = Callable[..., Catalogue]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The data stage on items of given titles and categories, with a tokenizer of some kind."""

    def stage(
        kind: Callable[[list[str]], PreTrainedTokenizerFast], titles: list[str], categories: list[list[str]]
    ) -> Catalogue:
        def make(*_: object) -> PreTrainedTokenizerBase:
            made = kind(titles)
            made.chat_template = TEMPLATE
            return made

        monkeypatch.setattr("ctrlrec.lm.backbone.make_tokenizer", make)
        rows = zip(titles, categories, strict=True)
        items = [{"item": f"i{n}", "title": title, "categories": names} for n, (title, names) in enumerate(rows)]
        (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        met = [f"u{user},i{item},{item}" for user in range(3) for item in range(len(items))]
        (tmp_path / "interactions.csv").write_text("\n".join(["user,item,timestamp", *met]) + "\n")
        config = compose(
            "dataset=records", f"dataset.path={tmp_path}", f"cache={tmp_path}/cache", "dataset.min_user_interactions=1",
            "dataset.min_item_interactions=1", "dataset.title_max_tokens=200",
        )  # fmt: skip
        data.run(config, {}, tmp_path)
        return Catalogue.load(tmp_path / "catalogue.jsonl")

    return stage


PLAIN = [f"Plain title, the {n}nd" for n in range(40)]
LOST = ["\u4e03\u4eba\u306e\u4f8d", "C++ {in} depth", "8\u00bd", "Two  spaces"]


def test_titles_that_are_other_texts_after_the_tokenizer_are_left_out_and_named(run: Run, tmp_path: Path) -> None:
    titles = [*PLAIN, *LOST]
    catalogue = run(like_t5, titles, [["Drama", "War"]] * len(titles))
    assert catalogue.titles == tuple(PLAIN)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["unwritable"]["titles"] == {"count": 4, "first": LOST}
    assert report["unwritable"]["items"] == 4
    assert "titles that the backbone's tokenizer cannot write | 4 | " + LOST[0] in (tmp_path / "card.md").read_text()


def test_categories_that_it_cannot_write_leave_their_items_the_others(run: Run, tmp_path: Path) -> None:
    names = [[f"Kind {n % 20}"] for n in range(40)]
    names[0], names[1] = ["Kind 0", "Driven <by>"], ["Driven <by>"]
    catalogue = run(like_t5, PLAIN, names)
    assert catalogue.categories[0] == ("Kind 0",)
    assert catalogue.titles == (PLAIN[0], *PLAIN[2:])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["unwritable"] == {
        "titles": {"count": 0, "first": []}, "categories": {"count": 1, "first": ["Driven <by>"]}, "items": 1,
    }  # fmt: skip


def test_more_than_a_tenth_is_refused(run: Run) -> None:
    titles = [*PLAIN[:20], *LOST]
    with pytest.raises(CtrlRecError, match=r"cannot write 4 of 24 titles \('.{4}', .*use another backbone"):
        run(like_t5, titles, [["Drama"]] * 24)
    with pytest.raises(CtrlRecError, match=r"cannot write 1 of 2 categories \('<Drama>'\)"):
        run(like_t5, PLAIN[:2], [["Drama"], ["<Drama>"]])


def test_decomposed_titles_are_written_by_a_tokenizer_that_composes(run: Run, tmp_path: Path) -> None:
    titles = ["Ame\u0301lie", "\u1112\u1161\u11ab", "u\u0308ber", "Plain", "<|end|> of an answer"]
    catalogue = run(like_qwen, titles, [["Come\u0301die"]] * 5)
    assert catalogue.titles == ("Am\u00e9lie", "\ud55c", "\u00fcber", "Plain", "<|end|> of an answer")
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    for item, title in enumerate(catalogue.titles[:4]):
        (written,) = written_items(tokenizer.decode(tokenizer(f"1. {title}")["input_ids"]))
        assert catalogue.answer_index.get(written.title) == item


def test_twenty_thousand_titles_cost_little(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []

    def timed(items: object, writable: Callable[[list[str]], list[bool]], report: dict[str, object]) -> object:
        started = time.process_time()
        names = [f"The long way home, part {n}: a film by nobody ({1900 + n % 100})" for n in range(20_000)]
        assert all(writable(names))
        seconds.append(time.process_time() - started)
        report["unwritable"] = {what: {"count": 0, "first": []} for what in ("titles", "categories")} | {"items": 0}
        return items

    monkeypatch.setattr("ctrlrec.data.prepare._leave_out_unwritable", timed)
    run(like_qwen, PLAIN, [["Drama"]] * 40)
    assert seconds[0] < 10
