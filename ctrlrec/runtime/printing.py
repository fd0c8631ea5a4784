"""Output of commands: streams that never end a run, and errors of one line."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TextIO

from ctrlrec.errors import CtrlRecError

Arguments = ParamSpec("Arguments")


class Output:
    """A text stream whose reader may go away: what can no longer be written is dropped.

    Args:
        stream: standard output or standard error.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; drop it if the pipe is closed, the terminal is gone or the disk is full."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush the stream; drop what is left if that fails."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        """Point the stream's descriptor to nowhere, so that what is left in its buffer has a place to go."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):  # closed by this process itself
            pass


def guard_output() -> None:
    """Make standard output and standard error safe to print to.

    A character that their encoding lacks becomes ``?`` in the output, so that tables keep their columns, and an escape
    in errors. A stream that is closed at the start is replaced: the next file that is opened would else take its number
    and all that is printed.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
        setattr(sys, name, Output(stream))


def command(main: Callable[Arguments, int | None]) -> Callable[Arguments, int]:
    """Return the body of a command as its entry point.

    The entry point guards the output. A :class:`CtrlRecError` becomes one line on standard error. The exit status is
    what the body returns, 0 if that is None; 1 after an error, or 130 after Ctrl-C.
    """

    @wraps(main)
    def run(*words: Arguments.args, **options: Arguments.kwargs) -> int:
        guard_output()
        try:
            return main(*words, **options) or 0
        except CtrlRecError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130

    return run
