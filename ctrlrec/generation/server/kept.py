"""Answers of servers kept on disk, each under the hash of its request, and what they took in tokens and money."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ctrlrec.config.schema import APIConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.files import write_text


class AnswerCache:
    """Keeps answers and counts those that are read.

    Args:
        config: whose answers they are, and prices.
        folder: created if missing.
    """

    def __init__(self, config: APIConfig, folder: Path):
        self.config, self.folder, self.retries = config, folder, 0
        self._counts = dict.fromkeys(("answers", "from_cache", "cut", "empty", "without_usage"), 0)
        self._tokens = {True: [0, 0], False: [0, 0]}  # from the cache or asked now: prompt and completion tokens
        folder.mkdir(parents=True, exist_ok=True)

    def file(self, url: str, request: dict[str, Any]) -> Path:
        """Return where the answer to a request is kept."""
        text = json.dumps([url, request], sort_keys=True, ensure_ascii=False)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def keep(self, file: Path, record: dict[str, Any]) -> None:
        """Write an answer before anything else happens to it."""
        write_text(file, json.dumps(record, ensure_ascii=False, indent=1))

    def read(self, file: Path, cached: bool) -> str:
        """Return the text of a kept answer and count it.

        Args:
            file: of :meth:`file`.
            cached: whether an earlier run had paid it.

        Raises:
            CtrlRecError: if the file is damaged.
        """
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            text, usage, cut = str(kept["answer"]), kept["usage"], kept["finish_reason"] == "length"
            tokens = (usage["prompt_tokens"], usage["completion_tokens"]) if usage else (0, 0)
        except (ValueError, KeyError, TypeError) as error:
            raise CtrlRecError(f"{file}: not an answer that was kept ({error!r}); delete the file") from None
        self._counts["answers"] += 1
        self._counts["from_cache"] += cached
        self._counts["cut"] += cut
        self._counts["empty"] += not text.strip()
        self._counts["without_usage"] += not usage
        for place, number in enumerate(tokens):
            self._tokens[cached][place] += number
        return text

    def report(self) -> dict[str, Any]:
        """Return what the answers took: counts, tokens and, if prices are known, cost; in all and in this run."""
        config, (cached, now) = self.config, (self._tokens[True], self._tokens[False])
        return {
            "url": config.url,
            "model": config.model,
            "retries": self.retries,
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
