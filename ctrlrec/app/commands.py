"""The commands of ``ctrlrec`` beside runs: ``ctrlrec recommend``, and so on."""

import importlib
import re
import sys
from collections.abc import Callable

from ctrlrec.config.choices import nearest
from ctrlrec.errors import CtrlRecError

# A further command is one line: its word, and the function that reads its options from ``sys.argv``.
COMMANDS = {
    "app": "ctrlrec.app.playground:main",
    "audit": "ctrlrec.app.audit:main",
    "export": "ctrlrec.export:main",
    "merge": "ctrlrec.lm.merge:main",
    "plan": "ctrlrec.pipeline.forecast:main",
    "recommend": "ctrlrec.app.recommend:main",
    "release": "ctrlrec.app.release:main",
    "report": "ctrlrec.reporting.page.__main__:main",
    "verify": "ctrlrec.app.verify:main",
}


def command_of(words: list[str]) -> Callable[[], int] | None:
    """Return the command that the first word names, with ``sys.argv`` as it expects it; None for a run.

    Args:
        words: of the command line.

    Raises:
        CtrlRecError: for a first word that is neither a command nor a part of a run.
    """
    word = words[0] if words else ""
    if not re.fullmatch(r"[a-z]+", word):
        return None
    if word not in COMMANDS:
        raise CtrlRecError(
            f"no command '{word}'; {nearest(word, COMMANDS)} A run takes words such as stage=rl variant=full"
        )
    module, name = COMMANDS[word].split(":")
    sys.argv = [f"ctrlrec {word}", *words[1:]]
    return getattr(importlib.import_module(module), name)
