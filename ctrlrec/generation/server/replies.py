"""Reading what servers reply: completions, errors, and how long they ask to wait."""

import email.utils
import json
import time
from typing import Any


def parsed(text: str) -> dict[str, Any]:
    """Return answer, finish reason and usage of a reply; raise one of the usual errors if it is not a completion."""
    body = json.loads(text)
    choice = body["choices"][0]
    content = choice["message"].get("content")
    if isinstance(content, list):  # of parts
        content = "".join(part["text"] for part in content)
    # Null if a filter stopped it or the model refused: asked again, it would be paid again and no other.
    answer = "" if content is None else content
    if not isinstance(answer, str):
        raise TypeError("no text")
    return {"answer": answer, "finish_reason": choice.get("finish_reason"), "usage": _usage(body.get("usage"))}


def _usage(said: Any) -> dict[str, int] | None:
    """Return the tokens that a reply counts; None if it counts none, which is no reason to pay for another."""
    try:
        return {name: int(said[name]) for name in ("prompt_tokens", "completion_tokens")}
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def message(text: str) -> str:
    """Return the error message of the usual JSON bodies, with its code; else the body."""
    try:
        error = json.loads(text)["error"]
        return f"{error.get('code') or ''} {error['message']}".strip() if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        return text


def retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 without one or if it cannot be read."""
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
