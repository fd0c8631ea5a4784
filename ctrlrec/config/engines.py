"""The engine that answers and the one that samples, and what each of them can do."""

from typing import Any

from ctrlrec.config.choices import Choices
from ctrlrec.config.schema import Config
from ctrlrec.errors import CtrlRecError

ENGINES: Choices[Any] = Choices("generation.engines", "ENGINE")


def answering_engine(config: Config) -> str | None:
    """Return the engine that answers in evaluation; None for the teacher, which needs none."""
    return {"teacher": None, "api": "api"}.get(config.variant.answers_with, config.generation.engine)


def sampling_engine(config: Config) -> str:
    """Return the engine of RL; a server answers in evaluation alone, because RL needs log-probabilities."""
    return "auto" if config.generation.engine == "api" else config.generation.engine


def check_engine(config: Config) -> None:
    """Refuse an engine that cannot do what a row asks of it.

    Raises:
        CtrlRecError: naming the keys and what to change.
    """
    variant, constraint = config.variant, config.constraint.name
    if (name := answering_engine(config)) is not None:
        _check_answers(name, config)
    if not variant.rl:
        return
    engine, name = ENGINES[sampling_engine(config)], sampling_engine(config)
    if not engine.samples:
        raise CtrlRecError(
            f"variant={variant.name} generation.engine={name}: it gives no log-probabilities, which RL needs; use "
            "generation.engine=auto"
        )
    if (guide := config.rl.guided_row) != "none" and not engine.constrainable:
        raise CtrlRecError(
            f"rl.guided_row={guide} generation.engine={name}: its answers cannot be constrained; set "
            "rl.guided_row=none or generation.engine=auto"
        )
    if constraint != "none" and config.rl.constrained and not engine.constrainable:
        raise CtrlRecError(
            f"constraint.name={constraint} rl.constrained=true generation.engine={name}: its answers cannot be "
            "constrained; set rl.constrained=false or generation.engine=auto"
        )


def _check_answers(name: str, config: Config) -> None:
    variant, model, constraint = config.variant, config.model, config.constraint.name
    engine = ENGINES[name]
    if variant.beam_search and not engine.local:
        raise CtrlRecError(
            f"variant={variant.name} generation.engine={name}: beams are searched by transformers; use "
            "generation.engine=auto"
        )
    if constraint != "none" and config.evaluation.constrained and not engine.constrainable:
        raise CtrlRecError(
            f"constraint.name={constraint} generation.engine={name}: its answers cannot be constrained; set "
            "constraint.name=none, or generation.engine=auto with a row whose model answers"
        )
    if model.kind == "encoder_decoder" and not engine.encoder_decoders:
        raise CtrlRecError(f"model={model.name} generation.engine={name}: encoder-decoders need auto, hf or api")
