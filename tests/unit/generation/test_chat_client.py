"""The chat-completions client against a real server on loopback that fails in every way a server can."""

import contextlib
import email.utils
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from chat_server import Behaviour, Server, completion, echo, send, serving

from ctrlrec.config.schema import APIConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.server.client import ChatClient

KEY = "sk-very-secret"
ASKED = [(("user", f"question {number}"),) for number in range(12)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def make(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ChatClient]:
    monkeypatch.setenv("TEST_KEY", KEY)

    def client(**changes: Any) -> ChatClient:
        values = {
            "name": "test", "url": server.url, "model": "parrot", "key_variable": "TEST_KEY", "concurrency": 3,
            "timeout": 5.0, "attempts": 4, "backoff": 0.01, "longest_wait": 10.0, "price_prompt": 2.0,
            "price_completion": 4.0,
        }  # fmt: skip
        return ChatClient(APIConfig(**{**values, **changes}), 64, tmp_path / "answers")

    return client


def heard(client: ChatClient, conversations: Sequence[Any]) -> list[str]:
    """All answers in the order of their questions."""
    answers = dict(client.answers(conversations))
    assert sorted(answers) == list(range(len(conversations)))
    return [answers[place] for place in range(len(conversations))]


def failing(status: int, body: str = "", **headers: str) -> Behaviour:
    return lambda handler, _: send(handler, status, body, **headers)


def test_answers_come_back_in_order_with_tokens_and_cost(make: Callable[..., ChatClient], server: Server) -> None:
    client = make()
    assert heard(client, [*ASKED, ASKED[0]]) == [
        *(f"QUESTION {number}" for number in range(12)),
        "QUESTION 0",
    ]
    assert len(server.requests) == 12  # equal questions are asked once
    assert server.requests[0]["model"] == "parrot" and server.requests[0]["max_tokens"] == 64
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    report = client.cache.report()
    assert (report["answers"], report["prompt_tokens"], report["completion_tokens"]) == (12, 240, 60)
    assert report["cost"] == report["cost_of_this_run"] == pytest.approx((240 * 2 + 60 * 4) / 1e6)
    assert make(price_prompt=None).cache.report()["cost"] is None


def test_no_more_requests_are_open_than_allowed(make: Callable[..., ChatClient], server: Server) -> None:
    def slow(handler: Any, request: dict[str, Any]) -> None:
        time.sleep(0.05)
        echo(handler, request)

    server.otherwise = slow
    heard(make(concurrency=3), ASKED)
    assert server.most_open == 3


def half(handler: Any, _: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(completion("half")[:40].encode())
    handler.close_connection = True


def hang_up(handler: Any, _: Any) -> None:
    handler.connection.close()


@pytest.mark.parametrize(
    "broken",
    [
        failing(500), failing(503, "<html>busy</html>"), failing(429, '{"error": {"message": "slow down"}}'),
        failing(200, "no json"), failing(200, "{}"), failing(200, '{"choices": []}'), failing(200, "[1, 2]"),
        failing(200, completion("x", choices=[{"message": {"content": {"1": "A"}}}])), half, hang_up,
    ],
    ids=["500", "503", "429", "text", "empty", "no choice", "list", "no text", "half", "hang up"],
)  # fmt: skip
def test_what_may_pass_is_tried_again(make: Callable[..., ChatClient], server: Server, broken: Behaviour) -> None:
    server.script = [broken, broken]
    client = make(concurrency=1)
    assert heard(client, ASKED[:2]) == ["QUESTION 0", "QUESTION 1"]
    assert client.cache.report()["retries"] == 2 and len(server.requests) == 4


@pytest.mark.parametrize(
    "broken", [failing(500, "down\nfor good"), failing(200, "garbage \x1b[31m"), half], ids=("500", "text", "half")
)
def test_what_does_not_pass_is_an_error_of_one_line(
    make: Callable[..., ChatClient], server: Server, broken: Behaviour
) -> None:
    server.otherwise = broken
    with pytest.raises(CtrlRecError, match="no answer in 2 attempts") as raised:
        heard(make(attempts=2, concurrency=1), ASKED[:1])
    assert "\n" not in str(raised.value) and "\x1b" not in str(raised.value)
    assert len(server.requests) == 2


def test_a_silent_server_times_out(make: Callable[..., ChatClient], server: Server) -> None:
    server.script = [lambda handler, _: time.sleep(1.5)]
    client = make(timeout=0.2, concurrency=1)
    started = time.monotonic()
    assert heard(client, ASKED[:1]) == ["QUESTION 0"]
    assert time.monotonic() - started < 1.4 and client.cache.report()["retries"] == 1


def drip(handler: Any, _: Any) -> None:
    """One byte after the other, none of them late."""
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    with contextlib.suppress(OSError):  # once the client has hung up
        for _ in range(40):
            handler.wfile.write(b" ")
            time.sleep(0.05)


def test_the_time_holds_for_the_whole_answer(make: Callable[..., ChatClient], server: Server) -> None:
    server.otherwise = drip
    started = time.monotonic()
    with pytest.raises(CtrlRecError, match=r"no whole answer within 0\.3 s"):
        heard(make(timeout=0.3, attempts=1), ASKED[:1])
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("how", ["compressed", "in chunks"])
def test_an_answer_may_come_in_parts(make: Callable[..., ChatClient], server: Server, how: str) -> None:
    def parts(handler: Any, _: Any) -> None:
        handler.protocol_version = "HTTP/1.1"
        body = completion("1. Été" * 500).encode()
        body = gzip.compress(body) if how == "compressed" else body
        handler.send_response(200)
        if how == "compressed":
            handler.send_header("Content-Encoding", "gzip")
            handler.send_header("Content-Length", str(len(body)))
        else:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for place in range(0, len(body), 9):
            part = body[place : place + 9]
            handler.wfile.write(part if how == "compressed" else b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.write(b"" if how == "compressed" else b"0\r\n\r\n")

    server.otherwise = parts
    assert heard(make(concurrency=1), ASKED[:2]) == ["1. Été" * 500] * 2


def test_a_refused_connection_is_called_one(make: Callable[..., ChatClient]) -> None:
    with socket.socket() as taken:  # bound and not listening
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(CtrlRecError, match=r"the last: .*Connection refused; run the same") as raised:
            heard(make(url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1", attempts=1), ASKED[:1])
    assert "HTTPConnection" not in str(raised.value)


@pytest.mark.parametrize(
    "header", [lambda: "1", lambda: email.utils.formatdate(time.time() + 2.5, usegmt=True)], ids=("seconds", "date")
)
def test_retry_after_holds_for_every_request(
    make: Callable[..., ChatClient], server: Server, header: Callable[[], str]
) -> None:
    arrivals: list[float] = []

    def arrive(handler: Any, request: dict[str, Any]) -> None:
        arrivals.append(time.monotonic())
        echo(handler, request)

    server.script = [lambda handler, _: send(handler, 429, "{}", Retry_After=header())]
    server.otherwise = arrive
    started = time.monotonic()
    heard(make(concurrency=1), ASKED[:3])
    assert min(arrivals) - started > 0.9 and len(arrivals) == 3


@pytest.mark.parametrize(
    "header", ["soon", "Mon, 01 Jan 0001 00:00:00 +2300", "Mon, 01 Jan 99999999999 00:00:00 GMT", "1, 2", "nan", "-5"]
)
def test_a_retry_after_that_says_nothing_is_no_wait(
    make: Callable[..., ChatClient], server: Server, header: str
) -> None:
    server.script = [failing(429, "{}", Retry_After=header)]
    assert heard(make(concurrency=1), ASKED[:1]) == ["QUESTION 0"]


@pytest.mark.parametrize("error", [ValueError, TypeError, OverflowError])
def test_a_date_that_no_reader_of_dates_can_take_is_no_wait(
    make: Callable[..., ChatClient], server: Server, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def parse(_: str) -> Any:
        raise error

    monkeypatch.setattr(email.utils, "parsedate_to_datetime", parse)
    server.script = [failing(503, "{}", Retry_After="Mon")]
    assert heard(make(concurrency=1), ASKED[:1]) == ["QUESTION 0"]


def test_waits_that_the_server_asks_for_end_no_run_that_gets_on(
    make: Callable[..., ChatClient], server: Server
) -> None:
    """One answer in so many seconds, and eight requests that want it."""
    seconds, free_at, lock = 0.05, [0.0], threading.Lock()

    def limited(handler: Any, request: dict[str, Any]) -> None:
        with lock:
            free = time.monotonic() >= free_at[0]
            if free:
                free_at[0] = time.monotonic() + seconds
        if free:
            echo(handler, request)
        else:
            send(handler, 429, "{}", Retry_After=str(seconds))

    server.otherwise = limited
    client = make(concurrency=8, attempts=3, backoff=0.02)
    asked = [(("user", f"question {number}"),) for number in range(40)]
    assert heard(client, asked) == [f"QUESTION {number}" for number in range(40)]
    assert client.cache.report()["retries"] > 0


def test_a_server_that_only_asks_to_wait_is_given_up(make: Callable[..., ChatClient], server: Server) -> None:
    server.script = [echo] * 3
    server.otherwise = failing(429, '{"error": {"message": "slow down"}}', Retry_After="0.01")
    with pytest.raises(CtrlRecError, match="no answer in 4 attempts, the last: 429 slow down"):
        heard(make(), ASKED)
    assert len(server.requests) <= 3 + 3 * 2 * 4


def test_requests_told_to_wait_do_not_come_back_together(make: Callable[..., ChatClient], server: Server) -> None:
    everybody, arrivals = threading.Barrier(6), []

    def told(handler: Any, _: Any) -> None:
        everybody.wait(5)
        send(handler, 429, "{}", Retry_After="0.6")

    def arrive(handler: Any, request: dict[str, Any]) -> None:
        arrivals.append(time.monotonic())
        echo(handler, request)

    server.script, server.otherwise = [told] * 6, arrive
    heard(make(concurrency=6, backoff=0.5), ASKED[:6])
    assert max(arrivals) - min(arrivals) > 0.02  # of half a second; all six so close by chance: once in a million


def test_a_wait_too_long_ends_the_run_and_says_so(make: Callable[..., ChatClient], server: Server) -> None:
    server.otherwise = failing(429, "{}", Retry_After="86400")
    with pytest.raises(CtrlRecError, match="asks to wait 86400 seconds"):
        heard(make(), ASKED)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}, "TEST_KEY"),
        (404, {"error": {"message": "no model parrot"}}, "api.model"),
        (429, {"error": {"message": "pay first", "code": "insufficient_quota"}}, "pay first"),
        (302, {}, "302"),
        (400, "not json", "not json"),
    ],
)
def test_what_cannot_pass_is_said_at_once_and_without_the_key(
    make: Callable[..., ChatClient], server: Server, status: int, body: Any, said: str
) -> None:
    server.otherwise = failing(status, body if isinstance(body, str) else json.dumps(body), Location="/elsewhere")
    with pytest.raises(CtrlRecError, match=said) as raised:
        heard(make(concurrency=1), ASKED)
    assert len(server.requests) == 1
    assert KEY not in str(raised.value) and len(str(raised.value).splitlines()) == 1


def test_a_run_that_broke_off_asks_only_what_is_missing(
    make: Callable[..., ChatClient], server: Server, tmp_path: Path
) -> None:
    server.script = [echo] * 5
    server.otherwise = failing(400, "stop")
    with pytest.raises(CtrlRecError, match="stop"):
        heard(make(concurrency=1), ASKED)
    server.requests.clear()
    server.otherwise = echo
    client = make(concurrency=1)
    assert heard(client, ASKED) == [f"QUESTION {number}" for number in range(12)]
    assert len(server.requests) == 7
    report = client.cache.report()
    assert (report["answers"], report["from_cache"], report["prompt_tokens"]) == (12, 5, 240)
    assert report["cost_of_this_run"] == pytest.approx(report["cost"] * 7 / 12)
    assert not any(KEY in path.read_text() for path in (tmp_path / "answers").iterdir())
    # Another model or length is another request.
    heard(make(model="owl"), ASKED[:1])
    assert len(server.requests) == 8


REFUSALS = {
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
    "instead.",
    "temperature": "Unsupported value: 'temperature' does not support 0 with this model.",
}


@pytest.mark.parametrize("refused", [("max_tokens",), ("temperature",), ("max_tokens", "temperature")])
def test_a_model_is_asked_as_it_wants_to_be_and_that_is_remembered(
    make: Callable[..., ChatClient], server: Server, refused: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    def picky(handler: Any, request: dict[str, Any]) -> None:
        for name in refused:
            if name in request:
                error = {"message": REFUSALS[name], "type": "invalid_request_error", "param": name}
                return send(handler, 400, json.dumps({"error": error}))
        return echo(handler, request)

    server.otherwise = picky
    client = make(concurrency=1, attempts=1)
    assert heard(client, ASKED) == [f"QUESTION {number}" for number in range(12)]
    assert len(server.requests) == 12 + len(refused) and client.cache.report()["retries"] == 0
    assert server.requests[-1].get("max_completion_tokens") == (64 if "max_tokens" in refused else None)
    assert ("takes no temperature" in caplog.text) == ("temperature" in refused)
    # The cache does not care how a question was put.
    server.otherwise = echo
    heard(make(), ASKED)
    assert len(server.requests) == 12 + len(refused)


def test_a_refusal_that_comes_again_is_an_error(make: Callable[..., ChatClient], server: Server) -> None:
    server.otherwise = failing(400, json.dumps({"error": {"message": REFUSALS["max_tokens"]}}))
    with pytest.raises(CtrlRecError, match="400 Unsupported parameter"):
        heard(make(concurrency=1), ASKED)
    assert len(server.requests) == 2


def test_requests_on_their_way_are_kept_when_another_fails(make: Callable[..., ChatClient], server: Server) -> None:
    def late(handler: Any, request: dict[str, Any]) -> None:
        time.sleep(0.2)
        echo(handler, request)

    server.script = [late, failing(400, "stop")]
    with pytest.raises(CtrlRecError, match="stop"):
        heard(make(concurrency=2), ASKED)
    assert len(server.requests) == 2
    heard(make(), ASKED[:2])
    assert len(server.requests) == 3


def test_texts_that_end_an_answer_are_sent(make: Callable[..., ChatClient], server: Server, tmp_path: Path) -> None:
    client = ChatClient(make().config, 64, tmp_path / "answers", ["<|end|>", "</s>"])
    heard(client, ASKED[:1])
    assert server.requests[0]["stop"] == ["<|end|>", "</s>"]
    heard(make(), ASKED[:1])
    assert len(server.requests) == 2 and "stop" not in server.requests[1]  # another request


def test_an_answer_in_parts_is_joined(make: Callable[..., ChatClient], server: Server) -> None:
    parts = [{"type": "text", "text": "1. A\n"}, {"type": "text", "text": "2. B"}]
    server.otherwise = failing(200, completion("", choices=[{"message": {"content": parts}}]))
    assert heard(make(), ASKED[:1]) == ["1. A\n2. B"]


def test_a_damaged_cache_is_named_and_not_repaired(make: Callable[..., ChatClient], tmp_path: Path) -> None:
    heard(make(), ASKED[:1])
    (file,) = (tmp_path / "answers").iterdir()
    file.write_text("{")
    with pytest.raises(CtrlRecError, match=file.name):
        heard(make(), ASKED[:1])


@pytest.mark.parametrize("message", [{"content": None, "refusal": "I cannot"}, {"content": ""}, {"role": "assistant"}])
def test_an_answer_without_text_is_an_empty_one_and_asked_once(
    make: Callable[..., ChatClient], server: Server, message: dict[str, Any]
) -> None:
    server.otherwise = failing(200, completion("", choices=[{"message": message, "finish_reason": "content_filter"}]))
    assert heard(make(), ASKED[:2]) == ["", ""]
    client = make()
    assert heard(client, ASKED[:2]) == ["", ""] and len(server.requests) == 2
    report = client.cache.report()
    assert (report["empty"], report["from_cache"], report["prompt_tokens"]) == (2, 2, 40)


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": 20}, {"prompt_tokens": "many", "completion_tokens": 5}, [20, 5], "none", 1, {}]
)
def test_an_answer_whose_tokens_are_not_counted_is_kept(
    make: Callable[..., ChatClient], server: Server, usage: Any
) -> None:
    server.otherwise = failing(200, completion("1. A", usage=usage))
    client = make()
    assert heard(client, ASKED[:2]) == ["1. A", "1. A"] and len(server.requests) == 2
    report = client.cache.report()
    assert (report["without_usage"], report["empty"], report["prompt_tokens"]) == (2, 0, 0)


def test_without_usage_and_with_cut_answers_the_report_says_so(make: Callable[..., ChatClient], server: Server) -> None:
    choice = {"message": {"content": "1. A"}, "finish_reason": "length"}
    server.otherwise = failing(200, json.dumps({"choices": [choice]}))
    client = make()
    heard(client, ASKED[:2])
    report = client.cache.report()
    assert (report["without_usage"], report["cut"], report["prompt_tokens"]) == (2, 2, 0)


def test_the_key_is_needed_and_does_not_travel_in_the_open(
    make: Callable[..., ChatClient], monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    with pytest.raises(CtrlRecError, match="unencrypted"):
        make(url="http://example.org/v1")
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(CtrlRecError, match="TEST_KEY is empty"):
        make()
    heard(make(key_variable=None), ASKED[:1])
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("inner", ["\n", "\r\nX: y", " ", "\x00", "\x7f", "é", "千"])
def test_a_key_that_no_header_can_hold_is_refused_without_repeating_it(
    make: Callable[..., ChatClient], monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    # Not by the environment itself, which takes no zero byte.
    monkeypatch.setattr("os.environ", {"TEST_KEY": f" sk-very{inner}secret\n"})
    with pytest.raises(CtrlRecError, match="TEST_KEY holds") as raised:
        make()
    assert "sk-very" not in str(raised.value) and "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
