"""Recompute the answers of a model that is available."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from ctrlrec.app.loading import Parts
from ctrlrec.config.schema import Config
from ctrlrec.evaluation.answering import predictions, teacher_answers
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.evaluation.scoring import score
from ctrlrec.evaluation.settings import test_users
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.pipeline.answering import model_answers
from ctrlrec.pipeline.settings import constrained

SAMPLE = 20  # users whose answers are compared


def answers(parts: Parts, builder: InstructionBuilder, config: Config) -> list[dict[str, Any]]:
    """Return lines of ``predictions.jsonl``, given now.

    Args:
        parts: of the model.
        builder: gives the questions: those of the users of the data.
        config: its ``evaluation`` section says who is asked what.
    """
    matcher = TitleMatcher(builder.catalogue.titles, config.evaluation.match_max_edits)
    constraint = None
    if constrained(config, "evaluate"):
        constraint = make_constraint(config.constraint, builder.catalogue, parts.chat_format)
    answerer = (
        teacher_answers(builder)
        if parts.model is None
        else model_answers(config, parts.model, parts.chat_format, constraint)
    )
    return [
        row
        for setting in config.evaluation.settings
        for row in predictions(setting, config, builder, answerer, matcher)
    ]


def metrics_from(rows: Sequence[dict[str, Any]], config: Config, builder: InstructionBuilder) -> dict[str, Any]:
    """Return what ``metrics.json`` of a row holds, without general ability.

    Args:
        rows: lines of ``predictions.jsonl``.
        config: of the row.
        builder: of the questions.
    """
    settings = config.evaluation
    return score(rows, builder.catalogue, settings.bootstrap_resamples, settings.confidence, config.seed)  # type: ignore[return-value]


def sample_digests(rows: Sequence[dict[str, Any]], builder: InstructionBuilder) -> dict[str, str]:
    """Return a digest of the answers to :data:`SAMPLE` users by setting: it tells answers apart and shows no title.

    Args:
        rows: lines of ``predictions.jsonl``.
        builder: of the questions.
    """
    sequences = builder.sequences
    sample = {sequences.users[user] for user in test_users(SAMPLE, sequences.tested)}
    texts: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        if row["user"] in sample:
            texts.setdefault(row["setting"], []).append((row["user"], row["response"]))
    return {name: hashlib.sha256(json.dumps(given).encode()).hexdigest() for name, given in texts.items()}
