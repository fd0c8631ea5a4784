"""A client of servers that speak chat completions: bounded concurrency, retries, and a cache that loses nothing.

Every answer is written to disk before the next thing happens, under a name that is the hash of its request: an
interrupted run asks only what is missing. The key is read from the environment when a client is made; it is sent in one
header and stands in no message, file or configuration.
"""

import email.utils
import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from ctrlrec.config.schema import APIConfig
from ctrlrec.controls.instruction import Messages
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.escaping import inert
from ctrlrec.runtime.files import write_text

_TRIED_AGAIN = (408, 409, 425, 429)  # and every 5xx
_LATE = (requests.Timeout, urllib3.exceptions.TimeoutError)
_BROKEN = (*_LATE, requests.ConnectionError, urllib3.exceptions.HTTPError)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _AttemptError(Exception):
    """One attempt that another may mend; ``wait`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


class ChatClient:
    """Asks many conversations of one model.

    Args:
        config: where and how.
        max_tokens: longest answer.
        folder: of the cache; made where missing.

    Raises:
        CtrlRecError: where the environment has no key or none that a header can hold, or it would travel unencrypted.
    """

    def __init__(self, config: APIConfig, max_tokens: int, folder: Path):
        self.config, self.max_tokens, self.folder = config, max_tokens, folder
        self._key = _key(config)
        self._url = config.url.rstrip("/") + "/chat/completions"
        self._session = requests.Session()
        self._session.mount(self._url, requests.adapters.HTTPAdapter(pool_maxsize=config.concurrency))
        self._session.auth = self._authorize  # given, so that nothing is looked up in a .netrc
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._failure: CtrlRecError | None = None
        self._resume_at, self._served = 0.0, 0
        self._counts = dict.fromkeys(("answers", "from_cache", "retries", "cut", "empty", "without_usage"), 0)
        self._tokens = {True: [0, 0], False: [0, 0]}  # from the cache or asked now: prompt and completion tokens
        folder.mkdir(parents=True, exist_ok=True)

    def answers(self, conversations: Sequence[Messages], progress: Callable[[int], None] = lambda _: None) -> list[str]:
        """The answer to each conversation, in order; equal conversations are asked once.

        Raises:
            CtrlRecError: where a request fails for good; answers that arrived before are kept.
        """
        files = [self._file(messages) for messages in conversations]
        asked = dict(zip(files, conversations, strict=True))
        found: dict[Path, str] = {}
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            waiting = {pool.submit(self._answer, file, messages): file for file, messages in asked.items()}
            try:
                for done in as_completed(waiting):
                    found[waiting[done]] = done.result()
                    progress(files.count(waiting[done]))
            except BaseException as error:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                if isinstance(error, CtrlRecError) and self._failure is not None:
                    raise self._failure from None  # not that of a request that gave up because of it
                raise
        return [found[file] for file in files]

    def report(self) -> dict[str, Any]:
        """What the answers so far took: counts, tokens, and cost where prices are known; now or when first asked."""
        config, (cached, now) = self.config, (self._tokens[True], self._tokens[False])
        return {
            "url": config.url,
            "model": config.model,
            **self._counts,
            "prompt_tokens": cached[0] + now[0],
            "completion_tokens": cached[1] + now[1],
            "cost": self._cost(cached[0] + now[0], cached[1] + now[1]),
            "cost_of_this_run": self._cost(*now),
        }

    def _cost(self, prompt: int, completion: int) -> float | None:
        prices = self.config.price_prompt, self.config.price_completion
        if prices[0] is None or prices[1] is None:
            return None
        return (prompt * prices[0] + completion * prices[1]) / 1e6

    def _body(self, messages: Messages) -> dict[str, Any]:
        return {
            "model": self.config.model,
            "messages": [{"role": role, "content": content} for role, content in messages],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }

    def _file(self, messages: Messages) -> Path:
        request = json.dumps([self._url, self._body(messages)], sort_keys=True, ensure_ascii=False)
        return self.folder / f"{hashlib.sha256(request.encode()).hexdigest()}.json"

    def _answer(self, file: Path, messages: Messages) -> str:
        cached = file.exists()
        if not cached:
            try:
                answer = self._ask(messages)
            except CtrlRecError as error:
                with self._lock:
                    self._failure = self._failure or error
                self._stop.set()
                raise
            record = {"url": self._url, "request": self._body(messages), **answer}
            write_text(file, json.dumps(record, ensure_ascii=False, indent=1))
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            text, usage, cut = str(kept["answer"]), kept["usage"], kept["finish_reason"] == "length"
            tokens = (usage["prompt_tokens"], usage["completion_tokens"]) if usage else (0, 0)
        except (ValueError, KeyError, TypeError) as error:
            raise CtrlRecError(f"{file}: not an answer that was kept ({error!r}); delete the file") from None
        with self._lock:
            self._counts["answers"] += 1
            self._counts["from_cache"] += cached
            self._counts["cut"] += cut
            self._counts["empty"] += not text.strip()
            self._counts["without_usage"] += not usage
            for place, number in enumerate(tokens):
                self._tokens[cached][place] += number
        return text

    def _ask(self, messages: Messages) -> dict[str, Any]:
        """One answer, however many attempts it takes."""
        failures, served = 0, self._served
        while True:
            self._pause()
            try:
                answer = self._attempt(messages)
            except _AttemptError as failed:
                if failed.wait > self.config.longest_wait:
                    raise CtrlRecError(
                        f"{self._url} asks to wait {failed.wait:.0f} seconds; run the same command then: answers so "
                        "far are kept"
                    ) from None
                # A server that says when to come back and meanwhile answers others is busy, not broken. That ends: once
                # all others are answered, every failure counts.
                if failed.wait and self._served > served:
                    failures, served = 0, self._served
                else:
                    failures += 1
                if failures == self.config.attempts:
                    raise CtrlRecError(
                        f"{self._url}: no answer in {self.config.attempts} attempts, the last: {failed}; run the same "
                        "command again: answers so far are kept"
                    ) from None
                # Jitter keeps requests that failed together from coming back together.
                wait = self.config.backoff * 2 ** max(failures - 1, 0) * random.uniform(0.5, 1)
                with self._lock:
                    self._counts["retries"] += 1
                    if failed.wait:  # what one request is told holds for all
                        self._resume_at = max(self._resume_at, time.monotonic() + failed.wait)
                self._stop.wait(min(wait, self.config.longest_wait))
            else:
                with self._lock:
                    self._served += 1
                return answer

    def _pause(self) -> None:
        """Wait as long as the server asked any request to; another request's failure ends the waiting."""
        while (left := self._resume_at - time.monotonic()) > 0:
            # Not all at one moment, at which a server that counts requests would turn away all but the first.
            if self._stop.wait(left + random.uniform(0, self.config.backoff)):
                break
        if self._stop.is_set():
            raise CtrlRecError(f"{self._url}: given up, because another request failed")

    def _attempt(self, messages: Messages) -> dict[str, Any]:
        try:
            status, headers, text = self._post(messages)
        except _LATE:
            raise _AttemptError(f"no whole answer within {self.config.timeout:g} s") from None
        except _BROKEN as error:
            raise _AttemptError(self._said(_cause(error))) from None
        except requests.RequestException as error:
            raise CtrlRecError(f"{self._url}: {self._said(str(error))}") from None
        if status != requests.codes.ok:
            said = f"{status} {self._said(_message(text))}"
            if (status in _TRIED_AGAIN or status >= 500) and "insufficient_quota" not in said:
                raise _AttemptError(said, _retry_after(headers.get("Retry-After")))
            raise CtrlRecError(f"{self._url}: {said}{self._advice(status)}")
        try:
            body = json.loads(text)
            choice = body["choices"][0]
            content = choice["message"].get("content")
            # Null where a filter stopped it or the model refused: asked again, it would be paid again and no other.
            answer = "" if content is None else content
            if not isinstance(answer, str):
                raise TypeError("no text")
            return {"answer": answer, "finish_reason": choice.get("finish_reason"), "usage": _usage(body.get("usage"))}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _AttemptError(f"no chat completion but {self._said(text)!r}") from None

    def _post(self, messages: Messages) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and body of a reply; requests itself would bound each read alone, not all of them."""
        timeout, body, late = self.config.timeout, bytearray(), False
        deadline = time.monotonic() + timeout
        with self._session.post(
            self._url, json=self._body(messages), timeout=timeout, allow_redirects=False, stream=True
        ) as reply:
            while part := reply.raw.read1(65536, decode_content=True):
                if late:  # and not yet complete: what is complete has been paid, and is taken
                    raise requests.Timeout
                body += part
                late = time.monotonic() > deadline
            return reply.status_code, reply.headers, body.decode("utf-8", "replace")

    def _advice(self, status: int) -> str:
        if status in (401, 403):
            name = self.config.key_variable
            return f"; check the key in {name}" if name else "; name the variable with the key in api.key_variable"
        return "; check api.url and api.model" if status in (400, 404, 422) else ""

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _said(self, text: str) -> str:
        """One short printable line of what a server said, without the key."""
        line = inert(text[:2000])
        return (line.replace(self._key, "***") if self._key else line)[:200]


def _key(config: APIConfig) -> str | None:
    if config.key_variable is None:
        return None
    key = os.environ.get(config.key_variable, "").strip()
    if not key:
        raise CtrlRecError(
            f"the environment variable {config.key_variable} is empty: put the key of {config.url} into it, or set "
            "api.key_variable=null for a server without one"
        )
    if not re.fullmatch("[!-~]+", key):  # the HTTP library would repeat it in its error
        raise CtrlRecError(
            f"the environment variable {config.key_variable} holds a line break, a space or another character that is "
            f"in no key: put the key of {config.url} into it anew"
        )
    address = urlsplit(config.url)
    if address.scheme != "https" and address.hostname not in _LOOPBACK:
        raise CtrlRecError(f"api.url={config.url}: the key would travel unencrypted; use https, or no key")
    return key


def _cause(error: BaseException) -> str:
    """What the system said, which the HTTP libraries wrap in errors of their own."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _usage(said: Any) -> dict[str, int] | None:
    """The tokens that a reply counts; None where it counts none, which is no reason to pay for another."""
    try:
        return {name: int(said[name]) for name in ("prompt_tokens", "completion_tokens")}
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _message(text: str) -> str:
    """The error message of the usual JSON bodies, with its code, else the body."""
    try:
        error = json.loads(text)["error"]
        return f"{error.get('code') or ''} {error['message']}".strip() if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        return text


def _retry_after(header: str | None) -> float:
    """Seconds of a Retry-After header, a number or a date; 0 where there is none or it cannot be read."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
