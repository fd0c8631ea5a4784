"""A client of servers that speak chat completions, with a cache on disk: a run that breaks off never pays twice.

Every answer is written under the hash of its request before it counts. The key is read from the environment when a
client is made; it is sent in one header and stands in no message, file or configuration.
"""

import asyncio
import contextlib
import logging
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from ctrlrec.config.schema import APIConfig
from ctrlrec.controls.instruction import Messages
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.server.kept import AnswerCache
from ctrlrec.generation.server.replies import message, parsed, retry_after
from ctrlrec.runtime.escaping import inert

log = logging.getLogger(__name__)

_RETRIED = (408, 409, 425, 429)  # and every 5xx
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _AttemptError(Exception):
    """One attempt that failed and may succeed later; ``wait`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


class ChatClient:
    """Asks many conversations of one model.

    Args:
        config: where and how.
        max_tokens: longest answer.
        folder: of the cache; created if missing.
        stop: at most four texts that end an answer.

    Raises:
        CtrlRecError: if the environment has no key, or one that no header can hold, or it would travel unencrypted.
    """

    def __init__(self, config: APIConfig, max_tokens: int, folder: Path, stop: Sequence[str] = ()):
        self.config, self.max_tokens, self.stop = config, max_tokens, list(stop[:4])
        self._key = key(config)
        self.cache = AnswerCache(config, folder)
        self._url = config.url.rstrip("/") + "/chat/completions"
        # How requests have to look, as far as refusals have shown.
        self._limit, self._temperature = "max_tokens", {"temperature": 0}
        self._failure: Exception | None = None
        self._resume_at, self._served = 0.0, 0

    def answers(self, conversations: Sequence[Messages]) -> Iterator[tuple[int, str]]:
        """Yield the place of each conversation and its answer, as answers arrive; equal conversations are asked once.

        Raises:
            CtrlRecError: if a request fails for good, after the answers that were on their way.
        """
        # One name for the limit in the cache, however the model wants it to be called.
        places: dict[Path, list[int]] = {}
        for place, messages in enumerate(conversations):
            request = self._body(messages, "max_tokens", {"temperature": 0})
            places.setdefault(self.cache.file(self._url, request), []).append(place)
        self._failure = None

        async def ask(file: Path, messages: Messages) -> tuple[Path, str] | None:
            async with room:
                try:
                    return file, await self._answer(connection, file, messages)
                except Exception as error:
                    self._failure = self._failure or error
                    self._stop.set()
                    return None

        with asyncio.Runner() as runner:
            loop, room, self._stop = runner.get_loop(), asyncio.Semaphore(self.config.concurrency), asyncio.Event()
            connection = self._connection()
            waiting = {loop.create_task(ask(file, conversations[rows[0]])) for file, rows in places.items()}
            try:
                # Requests on their way when another fails are waited for: they are paid.
                while waiting:
                    done, waiting = runner.run(_first(waiting))
                    for arrived in filter(None, (task.result() for task in done)):
                        for place in places[arrived[0]]:
                            yield place, arrived[1]
            finally:
                runner.run(connection.close())
        if self._failure is not None:
            raise self._failure

    def _connection(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=self.config.url,
            api_key=self._key or "none",
            timeout=self.config.timeout,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),  # the key goes to api.url alone
        )

    async def _answer(self, connection: openai.AsyncOpenAI, file: Path, messages: Messages) -> str:
        cached = file.exists()
        if not cached:
            answer = await self._ask(connection, messages)
            request = self._body(messages, self._limit, self._temperature)
            self.cache.keep(file, {"url": self._url, "request": request, **answer})
        return self.cache.read(file, cached)

    async def _ask(self, connection: openai.AsyncOpenAI, messages: Messages) -> dict[str, Any]:
        """Return one answer, however many attempts it takes."""
        failures, served, config = 0, self._served, self.config

        def is_over(state: RetryCallState) -> bool:
            """Return whether to give up; a server that asks to wait and meanwhile answers others is only busy."""
            nonlocal failures, served
            failed = state.outcome and state.outcome.exception()
            assert isinstance(failed, _AttemptError)
            if failed.wait and self._served > served:
                failures, served = 0, self._served
            else:
                failures += 1
            if failed.wait > config.longest_wait or failures >= config.attempts:
                return True
            self.cache.retries += 1
            self._resume_at = max(self._resume_at, time.monotonic() + failed.wait)  # for all requests
            return False

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_AttemptError),
            wait=lambda _: min(config.backoff * 2**failures * random.uniform(0.5, 1), config.longest_wait),
            stop=is_over,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            answer: dict[str, Any] = await attempts(self._attempt, connection, messages)
        except _AttemptError as failed:
            said = (
                f"{self._url}: no answer in {config.attempts} attempts, the last: {failed}; run the same command again"
            )
            if failed.wait > config.longest_wait:
                said = f"{self._url} asks to wait {failed.wait:.0f} seconds; run the same command then"
            raise CtrlRecError(f"{said}: answers so far are kept") from None
        self._served += 1
        return answer

    async def _sleep(self, seconds: float) -> None:
        """Wait; another request's failure ends the waiting."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _attempt(self, connection: openai.AsyncOpenAI, messages: Messages) -> dict[str, Any]:
        while (left := self._resume_at - time.monotonic()) > 0 and not self._stop.is_set():
            # Not all at one moment, at which a server that counts requests would refuse all but the first.
            await self._sleep(left + random.uniform(0, self.config.backoff))
        if self._stop.is_set():
            raise CtrlRecError(f"{self._url}: given up, because another request failed")
        headers = {} if self._key else {"Authorization": openai.Omit()}
        body = self._body(messages, self._limit, self._temperature)
        try:
            async with asyncio.timeout(self.config.timeout):  # the library bounds each read alone, not all of them
                reply = await connection.chat.completions.with_raw_response.create(**body, extra_headers=headers)  # type: ignore[arg-type]
        except (TimeoutError, openai.APITimeoutError):
            raise _AttemptError(f"no whole answer within {self.config.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise _AttemptError(self._printable(_cause(error))) from None
        except openai.APIStatusError as error:
            self._handle(error, body)
            return await self._attempt(connection, messages)  # as the model wants to be asked
        try:
            return parsed(reply.text)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _AttemptError(f"no chat completion but {self._printable(reply.text)!r}") from None

    def _handle(self, error: openai.APIStatusError, body: dict[str, Any]) -> None:
        """Return if the request must be put otherwise, as is remembered from now on.

        Raises:
            _AttemptError: if the same request may succeed later.
            CtrlRecError: if it cannot.
        """
        status, text = error.status_code, error.response.text
        said = f"{status} {self._printable(message(text))}"
        if (status in _RETRIED or status >= 500) and "insufficient_quota" not in said:
            raise _AttemptError(said, retry_after(error.response.headers.get("Retry-After")))
        if status in (400, 422):
            if "max_tokens" in body and "max_completion_tokens" in text:
                self._limit = "max_completion_tokens"
                return
            if "temperature" in body and "temperature" in said:
                if self._temperature:
                    log.warning("%-12s %s takes no temperature: its answers are not greedy", "api", self.config.model)
                self._temperature = {}
                return
        raise CtrlRecError(f"{self._url}: {said}{self._advice(status)}")

    def _body(self, messages: Messages, limit: str, temperature: dict[str, int]) -> dict[str, Any]:
        said = [{"role": role, "content": content} for role, content in messages]
        stop = {"stop": self.stop} if self.stop else {}
        return {"model": self.config.model, "messages": said, limit: self.max_tokens} | temperature | stop

    def _advice(self, status: int) -> str:
        if status in (401, 403):
            name = self.config.key_variable
            return f"; check the key in {name}" if name else "; name the variable with the key in api.key_variable"
        return "; check api.url and api.model" if status in (400, 404, 422) else ""

    def _printable(self, text: str) -> str:
        """Return one short printable line of what a server said, without the key."""
        line = inert(text[:2000])
        return (line.replace(self._key, "***") if self._key else line)[:200]


async def _first(tasks: set[asyncio.Task[Any]]) -> tuple[set[asyncio.Task[Any]], set[asyncio.Task[Any]]]:
    """Wait for the first of some tasks and return those that are done, and the others."""
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def key(config: APIConfig) -> str | None:
    """Return the key of a server from the environment; None for a server without one.

    Raises:
        CtrlRecError: if the environment has no key, or one that no header can hold, or it would travel unencrypted.
    """
    if config.key_variable is None:
        return None
    secret = os.environ.get(config.key_variable, "").strip()
    if not secret:
        raise CtrlRecError(
            f"the environment variable {config.key_variable} is empty: put the key of {config.url} into it, or set "
            "api.key_variable=null for a server without one"
        )
    if not re.fullmatch("[!-~]+", secret):  # the HTTP library would repeat it in its error
        raise CtrlRecError(
            f"the environment variable {config.key_variable} holds a line break, a space or another character that no "
            f"key has: put the key of {config.url} into it again"
        )
    address = urlsplit(config.url)
    if address.scheme != "https" and address.hostname not in _LOOPBACK:
        raise CtrlRecError(f"api.url={config.url}: the key would travel unencrypted; use https, or no key")
    return secret


def _cause(error: BaseException) -> str:
    """Return what the system said, which the HTTP libraries wrap in errors of their own."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    known = isinstance(error, OSError) and error.errno
    return os.strerror(known) if known else str(error) or type(error).__name__
