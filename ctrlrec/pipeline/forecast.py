"""Forecast what a run takes on a card, before it starts: ``ctrlrec plan model=... card=h100``.

Steps and tokens are counted if the stage ``instructions`` is done, else estimated. Times are those of the code as it
is: a pass costs its products, the bytes that it moves and the launches of its kernels, one after the other.
"""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from ctrlrec.config.choices import nearest
from ctrlrec.config.compose import compose
from ctrlrec.config.schema import Config, Trainable, answers_per_prompt
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.adapters import with_adapter
from ctrlrec.lm.backbone import load_settings
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.footprint import USED, bytes_per_token
from ctrlrec.pipeline.cards import CARDS, ESTIMATE, SHAPES, Card
from ctrlrec.pipeline.inputs import cache_folder
from ctrlrec.pipeline.plan import Step, plan
from ctrlrec.runtime.files import read_jsonl
from ctrlrec.runtime.printing import command

COUNTED = "counted"
# Counted per layer of SmolLM2-135M with adapters on one processor core: seconds to launch the kernels of a pass forward
# and backward, of one decoding step; per layer and unit of width the bytes that a token moves in both passes.
_LAUNCH_FORWARD, _LAUNCH_BACKWARD, _LAUNCH_STEP = 0.045 / 30, 0.027 / 30, 0.016 / 30
_MOVED = 1000
_FORWARD = 0.4  # of the bytes moved and of the time of both passes
_REACHED = 0.87  # of the traffic by elementwise kernels
_LONGEST = 1.2  # the longest answer of an iteration, to the mean


@dataclass(frozen=True)
class Sizes:
    """Numbers of samples and tokens; ``source`` says where they are from."""

    samples: int
    tokens: float
    response: float
    answer: float
    prompt: float
    users: int
    source: str


# MovieLens-100K counted with SmolLM2's tokenizer; Amazon Movies & TV from Tables 1 and 7, its tokens a guess.
_SIZES = {
    "movielens_100k": Sizes(6253, 172, 56, 135, 168, 943, ESTIMATE),
    "amazon_movie": Sizes(87597, 250, 80, 160, 200, 13218, ESTIMATE),
}


@dataclass(frozen=True)
class Line:
    """A line of the forecast."""

    stage: str
    steps: int
    tokens: float
    memory: float
    seconds: float


class Forecast:
    """Tokens, steps, memory and hours of a run.

    Args:
        config: of the run.
        card: to run on.
        shape: of the backbone.
        sizes: of the data.
    """

    def __init__(self, config: Config, card: Card, shape: PretrainedConfig, sizes: Sizes):
        self.config, self.card, self.sizes = config, card, sizes
        text: Any = shape.get_text_config()
        self.layers, self.width = text.num_hidden_layers, text.hidden_size
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shape)
            self.parameters = model.num_parameters()
            self.wide = 2 if config.model.dtype in ("auto", "bfloat16") else 4
            # Keys and values of a position, and the projections that the decoder copies to fuse them.
            head = getattr(text, "head_dim", None) or self.width // text.num_attention_heads
            self.cached = 2 * self.wide * self.layers * text.num_key_value_heads * head
            fused = text.num_attention_heads * head + 2 * text.num_key_value_heads * head + 2 * text.intermediate_size
            self.copied = self.wide * self.layers * self.width * fused
            each = with_adapter(model, 1, 1).num_parameters(only_trainable=True)
            self.adapters = each * config.sl.lora_rank, each * config.rl.lora_rank
        self.per_token = bytes_per_token(shape, config.trainer, config.trainer.chunked_head is not False)

    def lines(self) -> list[Line]:
        """Return a line for each stage of the row that needs the card."""
        variant = self.config.variant
        stages = [self.sl()] if variant.tasks else []
        stages += [self.rl()] if variant.rl else []
        return [*stages, self.evaluation()] if variant.answers_with == "model" else stages

    def sl(self) -> Line:
        """Return the line of supervised fine-tuning."""
        config, sizes = self.config.sl, self.sizes
        steps = config.max_steps or config.epochs * max(1, sizes.samples // config.batch_size)
        tokens = config.batch_size * sizes.tokens
        full = config.trainable == Trainable.full
        learnt = self.parameters if full else self.adapters[0]
        held = self._weights() + 16 * learnt  # float32: weight, gradient, two moments
        passes, taken = self._passes(tokens, held)
        seconds = steps * (tokens * self._per_token(6 if full else 4) + passes * self._launches())
        return Line("sl", steps, steps * tokens, held + taken, seconds)

    def rl(self) -> Line:
        """Return the line of reinforcement learning."""
        config, sizes = self.config.rl, self.sizes
        rows = config.prompts * answers_per_prompt(config)
        tokens = rows * (sizes.prompt + sizes.answer)
        adapters = 2 if config.algorithm.name == "ppo" else 1
        held = self._weights() + 16 * adapters * self.adapters[1]
        capacity = sizes.prompt + self.config.model.max_response_length
        passes, taken = self._passes(tokens / config.minibatches, held)
        passes *= config.minibatches
        answering = self.copied + rows * capacity * self.cached
        rollout = _LONGEST * sizes.answer * self._step(rows)
        read = tokens * _FORWARD * self._per_token(4) + passes * _LAUNCH_FORWARD * self.layers
        learn = tokens * self._per_token(4) + passes * self._launches()
        seconds = rollout + (adapters + 1) * read + config.ppo_epochs * adapters * learn
        answers = config.iterations * rows * sizes.answer
        return Line("rl", config.iterations, answers, held + max(taken, answering), config.iterations * seconds)

    def evaluation(self) -> Line:
        """Return the line of answering test users in all settings."""
        sizes, settings = self.sizes, self.config.evaluation
        users = min(filter(None, (sizes.users, settings.users, self.config.variant.first_users)))
        questions = users * len(settings.settings)
        rows = min(self.config.generation.batch_size, users)
        capacity = sizes.prompt + self.config.generation.max_new_tokens
        steps = math.ceil(questions * sizes.answer / rows)
        held = self._weights() + self.copied + rows * capacity * self.cached
        return Line("evaluate", questions, questions * sizes.answer, held, steps * self._step(rows))

    def _weights(self) -> float:
        return self.parameters * self.wide

    def _passes(self, tokens: float, held: float) -> tuple[int, float]:
        """Return the passes that a batch takes beside what is held, and the memory that the largest of them takes."""
        budget = max(USED * (self.card.memory * 1e9 - held), self.per_token * self.config.model.max_length)
        passes = max(1, math.ceil(tokens * self.per_token / budget))
        return passes, tokens / passes * self.per_token

    def _per_token(self, products: int) -> float:
        """Return the seconds that a token takes forward and backward, without launches."""
        # Narrow products reach less: 250 of 798 at a width of 576, 600 at 4,096.
        share = min(0.75, 0.31 + 0.44 * math.log(max(1.0, self.width / 576)) / math.log(4096 / 576))
        moved = _MOVED * self.width * self.layers / (_REACHED * self.card.traffic * 1e12)
        return products * self.parameters / (share * self.card.products * 1e12) + moved

    def _launches(self) -> float:
        return (_LAUNCH_FORWARD + _LAUNCH_BACKWARD) * self.layers

    def _step(self, rows: float) -> float:
        """Return the seconds of one decoding step."""
        half = self.sizes.prompt + self.sizes.answer / 2
        read = self._weights() + rows * half * self.cached
        return max(_LAUNCH_STEP * self.layers, read / (_REACHED * self.card.traffic * 1e12))


def counted(config: Config, steps: dict[str, Step]) -> Sizes | None:
    """Return sizes of the data of a run whose stage ``instructions`` is done; None if it is not."""
    folders = {name: steps[name].directory for name in ("data", "instructions") if name in steps}
    if len(folders) < 2 or not all(folder.is_dir() for folder in folders.values()):
        return None
    chat_format = ChatFormat.load(folders["data"] / "tokenizer", config.model)
    total = json.loads((folders["instructions"] / "counts.json").read_text(encoding="utf-8"))["total"]
    with (folders["instructions"] / "instructions.jsonl").open(encoding="utf-8") as file:
        lines = sum(1 for _ in file)
    rows = list(islice(read_jsonl(folders["instructions"] / "instructions.jsonl"), 0, None, max(1, lines // 500)))
    responses = [len(row) for row in chat_format.responses([row["response"] for row in rows])]
    prompts = [len(row) for row in chat_format.contents([row["prompt"] for row in rows])]
    item = sum(responses) / max(1, sum(len(row["labels"]) for row in rows))  # tokens of an item, dialogues among them
    sequences = read_jsonl(folders["data"] / "sequences.jsonl")
    users = sum(row.get("test", True) is not None for row in sequences)  # of the default split all have a test item
    mean = sum(responses) / len(rows), sum(prompts) / len(rows)
    return Sizes(total, sum(mean), mean[0], item * config.evaluation.item_count, mean[1], users, COUNTED)


def backbone(config: Config) -> PretrainedConfig:
    """Return the shape of the backbone.

    Raises:
        CtrlRecError: for an encoder-decoder, or a configuration that can be neither read nor fetched.
    """
    model = config.model
    if model.kind == "encoder_decoder":
        raise CtrlRecError(f"model={model.name}: forecasts are made for causal language models alone")
    if model.kind == "llama_mini":
        assert model.hidden_size and model.layers and model.heads and model.vocabulary
        return LlamaConfig(
            hidden_size=model.hidden_size, num_hidden_layers=model.layers, num_attention_heads=model.heads,
            intermediate_size=8 * model.hidden_size // 3, vocab_size=model.vocabulary, tie_word_embeddings=True,
        )  # fmt: skip
    known = SHAPES.get(model.path or model.kind)
    return known if known is not None else load_settings(model, cache_folder(config))


def report(lines: Iterable[Line], forecast: Forecast, name: str) -> str:
    """Return the forecast as text, with what is measured, counted and estimated."""
    card, sizes, config = forecast.card, forecast.sizes, forecast.config
    out = [
        f"{config.variant.name}, model={config.model.name} ({forecast.parameters / 1e9:.2f} billion parameters), "
        f"budget={config.budget.name}, on one {name} ({card.memory:.0f} GB)",
        "",
        "| stage | steps | tokens | GB | hours |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    whole, crowded = 0.0, []
    for line in lines:
        out.append(
            f"| {line.stage} | {line.steps:,} | {line.tokens / 1e6:,.1f} M | {line.memory / 1e9:.1f} | "
            f"{line.seconds / 3600:.2f} |"
        )
        whole += line.seconds
        crowded += [line.stage] if line.memory > 0.95 * card.memory * 1e9 else []
    out += [f"| in all | | | | {whole / 3600:.2f} |", ""]
    if crowded:
        out.append(f"does not fit: {', '.join(crowded)}; trainer.activation_checkpointing=true, a smaller "
                   "generation.batch_size or a larger card")  # fmt: skip
    out += [
        f"{sizes.source}: {sizes.samples:,} samples an epoch of {sizes.tokens:.0f} tokens, {sizes.response:.0f} "
        f"of them the response; lists of {sizes.answer:.0f} tokens to prompts of {sizes.prompt:.0f}; {sizes.users:,} "
        "users",
        f"{card.source}: {card.products:.0f} TFLOP/s and {card.traffic} TB/s of the card",
        f"{ESTIMATE}: GB and hours, by these, by bytes and kernels counted in a pass of SmolLM2, "
        "and by launches timed on one core. Teacher, data and instructions take minutes.",
    ]
    return "\n".join(out)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print the forecast of ``CARD WORDS``: words as of ``python -m ctrlrec``, among them ``card=NAME``."""
    words = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(words):
        print(f"usage: ctrlrec plan [card=NAME] WORDS...\n\nWORDS: as of python -m ctrlrec. Cards: {', '.join(CARDS)}.")
        sys.exit(0)
    names = [word.removeprefix("card=") for word in words if word.startswith("card=")] or ["h100"]
    if names[-1] not in CARDS:
        raise CtrlRecError(f"card={names[-1]}: {nearest(names[-1], CARDS)} ({', '.join(CARDS)})")
    config = compose(*(word for word in words if not word.startswith("card=")))
    sizes = counted(config, plan(config)) or _SIZES.get(config.dataset.name)
    if sizes is None:
        raise CtrlRecError(
            f"dataset={config.dataset.name}: its samples are not counted; run the same words with "
            f"stage=instructions first (output={Path(config.output)})"
        )
    forecast = Forecast(config, CARDS[names[-1]], backbone(config), sizes)
    print(report(forecast.lines(), forecast, names[-1]))


if __name__ == "__main__":
    sys.exit(main())
