"""General conversation (I4): reads dialogues in the usual formats and draws training samples from them.

A broken dialogue is left out and counted; text is never altered. What cannot be read at all is an error.
"""

import hashlib
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ctrlrec.controls.instruction import Messages
from ctrlrec.data.files import BoundedGzip
from ctrlrec.errors import CtrlRecError

_HUB = "hub:"
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell one alone; no tokenizer can encode it
_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}


class Fault(StrEnum):
    """Why a dialogue was left out."""

    NOT_JSON = "a line that is not JSON"
    NOT_A_DIALOGUE = "no list of turns under 'conversations' or 'messages'"
    UNKNOWN_ROLE = "a turn with an unknown role"
    EMPTY_TEXT = "a turn without text"
    NOT_UNICODE = "half of a surrogate pair in a text"
    NO_ASSISTANT = "no assistant turn"
    NOT_USER_FIRST = "does not start with a user turn"
    NOT_ALTERNATING = "user and assistant do not alternate"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation.

    Attributes:
        id: the file's own id, or the position in the file, from 0, if that is neither text nor a number.
        messages: (role, text): an optional system turn, then user and assistant in turns, assistant last.
    """

    id: str
    messages: Messages


@dataclass(frozen=True, slots=True)
class ChatReport:
    """Counts of what a chat file holds.

    Attributes:
        source: file or hub id; ``shipped`` for the dialogues of this package.
        read: dialogues in the source.
        kept: dialogues that can be used.
        skipped: dialogues left out, by reason; reasons that did not occur are absent.
        unanswered: kept dialogues whose last user turn had no answer and was cut.
    """

    source: str
    read: int
    kept: int
    skipped: dict[Fault, int]
    unanswered: int

    def __str__(self) -> str:
        """Return one line for the terminal."""
        parts = [f"{count} skipped: {fault}" for fault, count in self.skipped.items()]
        parts += [f"{self.unanswered} cut by an unanswered last turn"] * bool(self.unanswered)
        return "; ".join([f"{self.source}: {self.kept} of {self.read} dialogues kept", *parts])


def source_digest(path: str | Path | None) -> str | None:
    """Digest a chat file; None for the shipped dialogues and for a hub data set.

    Raises:
        CtrlRecError: for a file that cannot be read.
    """
    return None if path is None or str(path).startswith(_HUB) else hashlib.sha256(_read(path)).hexdigest()


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise CtrlRecError(f"{path}: chat data cannot be read ({error}); check instructions.chat_path") from None


def load_dialogues(path: str | Path | None) -> tuple[list[Dialogue], ChatReport]:
    """Read dialogues and leave out the broken ones.

    Args:
        path: a file, as ShareGPT (``conversations`` of ``from``/``value``) or ``messages`` of ``role``/``content``,
            either a JSON list or JSON Lines, plain or gzipped; or ``hub:owner/name`` for the train split of a hub
            data set, ``hub:owner/name:split`` for another; None for the dialogues shipped with the package.

    Returns:
        Usable dialogues in the order of the source, and the counts.

    Raises:
        CtrlRecError: for a source that cannot be read or in which no dialogue can be used.
    """
    name = "shipped" if path is None else str(path)
    if path is None:
        records = _records(resources.files(__package__).joinpath("dialogues.jsonl").read_bytes(), name)
    elif name.startswith(_HUB):
        records = _from_hub(name)
    else:
        records = _records(_read(path), name)

    dialogues: list[Dialogue] = []
    skipped: Counter[Fault] = Counter()
    read = unanswered = 0
    for position, record in enumerate(records):
        read += 1
        turns = record if isinstance(record, Fault) else _turns(record)
        if isinstance(turns, Fault):
            skipped[turns] += 1
            continue
        answered = turns[:-1] if turns[-1][0] == "user" else turns
        unanswered += len(answered) < len(turns)
        own = record.get("id")
        named = isinstance(own, str | int) and not _SURROGATE.search(str(own))
        dialogues.append(Dialogue(str(own) if named else str(position), answered))
    report = ChatReport(name, read, len(dialogues), dict(sorted(skipped.items())), unanswered)
    if not dialogues:
        raise CtrlRecError(f"{report}; expected ShareGPT or 'messages' dialogues, see instructions.chat_path")
    return dialogues, report


def draw(
    dialogues: Sequence[Dialogue], rng: np.random.Generator, fits: Callable[[Messages, str], bool]
) -> tuple[Messages, str] | None:
    """Return one training sample: an assistant turn of a dialogue, after as much of the conversation as fits.

    Args:
        dialogues: at least one.
        rng: decides the dialogue and the turn, each uniformly.
        fits: whether a context and its response are within the length limit; what does not fit must not fit with
            more context either.

    Returns:
        The context, which is the system turn, if any, and the longest run of turns before the response that starts
        at a user turn and fits; and the response. None if the response after the user turn alone does not fit.
    """
    messages = dialogues[int(rng.integers(len(dialogues)))].messages
    system = messages[: messages[0][0] == "system"]
    answers = range(len(system) + 1, len(messages), 2)
    answer = answers[int(rng.integers(len(answers)))]
    response = messages[answer][1]
    best = None
    # From short to long: a dialogue of hundreds of turns is then measured no further than the limit reaches.
    for start in range(answer - 1, len(system) - 1, -2):
        context = system + messages[start:answer]
        if not fits(context, response):
            break
        best = context
    return None if best is None else (best, response)


def _records(content: bytes, name: str) -> Iterator[Any]:
    """Yield the JSON values of a list or of JSON Lines; gzip and format are detected by content, not by name.

    A damaged line is a fault of its own; a file whose first line is not JSON is not a chat file.
    """
    if content.startswith(b"\x1f\x8b"):
        try:
            content = BoundedGzip(io.BytesIO(content), name, len(content)).read()
        except (OSError, EOFError, zlib.error) as error:
            raise CtrlRecError(f"{name}: damaged gzip file ({error}); fetch it again") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CtrlRecError(f"{name}, line {line}: not UTF-8 ({error.reason}); convert the file to UTF-8") from None
    if text.lstrip().startswith("["):
        yield from _parse(text, name, 1)
        return
    first = True
    for number, row in enumerate(text.split("\n"), start=1):  # splitlines would split at U+2028 within a text, too
        if not row.strip():
            continue
        try:
            value = _parse(row, name, number)
        except CtrlRecError:
            if first:
                raise
            value = Fault.NOT_JSON
        first = False
        yield value


def _parse(text: str, name: str, line: int) -> Any:
    """Parse the JSON value of a text that begins at a line of a file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line, reason = line + error.lineno - 1, error.msg
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists nested thousands deep
        reason = str(error)
    raise CtrlRecError(f"{name}, line {line}: not JSON ({reason}); expected a list of dialogues or one dialogue a line")


def _from_hub(name: str) -> Iterator[Any]:
    from datasets import load_dataset

    repository, _, split = name.removeprefix(_HUB).partition(":")
    try:
        dataset = load_dataset(repository, split=split or "train")
    except Exception as error:  # the library and its network stack share no base class for their errors
        reason = " ".join(str(error).split())
        raise CtrlRecError(
            f"{name}: the hub data set cannot be loaded ({reason}); expected hub:owner/name or hub:owner/name:split, "
            "or download it and set instructions.chat_path to the file"
        ) from None
    yield from dataset


def _first(record: dict[str, Any], *keys: str) -> Any:
    """Return the first value that is not null; hub data sets often carry both spellings, one of them empty."""
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _turns(record: Any) -> Messages | Fault:
    """Return the turns of a record under their usual role names, or what is wrong with them."""
    raw = _first(record, "conversations", "messages") if isinstance(record, dict) else None
    if not isinstance(raw, list) or not all(isinstance(turn, dict) for turn in raw):
        return Fault.NOT_A_DIALOGUE
    turns = []
    for turn in raw:
        said, text = _first(turn, "from", "role"), _first(turn, "value", "content")
        role = _ROLES.get(said) if isinstance(said, str) else None
        if role is None:
            return Fault.UNKNOWN_ROLE
        if not isinstance(text, str) or not text.strip():
            return Fault.EMPTY_TEXT
        if _SURROGATE.search(text):
            return Fault.NOT_UNICODE
        turns.append((role, text))
    roles = [role for role, _ in turns]
    if "assistant" not in roles:
        return Fault.NO_ASSISTANT
    spoken = roles[roles[0] == "system" :]
    if spoken[0] != "user":
        return Fault.NOT_USER_FIRST
    if any(role != ("user", "assistant")[index % 2] for index, role in enumerate(spoken)):
        return Fault.NOT_ALTERNATING
    return tuple(turns)
