"""What a run takes on a card: counted where it is counted, and said where it is not."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ctrlrec.config.compose import compose
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.pipeline import forecast
from ctrlrec.pipeline.cards import CARDS, SHAPES
from ctrlrec.pipeline.forecast import Forecast, Sizes, backbone, counted, main
from ctrlrec.pipeline.plan import plan
from ctrlrec.runtime.files import read_jsonl, write_jsonl

PUBLISHED = {
    "smollm2_wheel": 134_515_008,
    "meta-llama/Llama-2-7b-chat-hf": 6_738_415_616,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "Qwen/Qwen3-8B": 8_190_735_360,
}
SIZES = Sizes(6400, 200, 50, 100, 150, 900, "counted")


def lines(*words: str, card: str = "h100") -> dict[str, forecast.Line]:
    config = compose("variant=full", *words)
    return {line.stage: line for line in Forecast(config, CARDS[card], backbone(config), SIZES).lines()}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        assert AutoModelForCausalLM.from_config(SHAPES[name]).num_parameters() == PUBLISHED[name]


def test_steps_and_tokens_follow_the_schedule() -> None:
    made = lines("model=llama2_7b_chat", "budget=paper", "sl.batch_size=64", "sl.epochs=30")
    assert (made["sl"].steps, made["sl"].tokens) == (30 * 100, 30 * 100 * 64 * 200)
    assert (made["rl"].steps, made["rl"].tokens) == (3000, 3000 * 16 * 100)
    assert made["evaluate"].steps == 900 * 7
    assert lines("sl.max_steps=7")["sl"].steps == 7


def test_hours_grow_with_the_model_and_shrink_with_the_card() -> None:
    small, large = lines("model=smollm2_135m", "budget=paper"), lines("model=llama2_7b_chat", "budget=paper")
    slower = lines("model=llama2_7b_chat", "budget=paper", card="a100")
    for stage in ("sl", "rl", "evaluate"):
        assert small[stage].seconds < large[stage].seconds <= slower[stage].seconds
        assert small[stage].memory < large[stage].memory
    # Alone the weights, then what learning and answering add.
    assert all(line.memory > 2 * PUBLISHED["meta-llama/Llama-2-7b-chat-hf"] for line in large.values())
    assert large["sl"].memory < 80e9
    few = lines("model=llama2_7b_chat", "budget=paper", "trainer.activation_checkpointing=true")
    assert few["sl"].memory < large["sl"].memory


def test_the_card_has_the_head_in_chunks_whatever_this_machine_has() -> None:
    def taken(*words: str) -> float:
        config = compose("variant=full", "model=smollm2_135m", *words)
        return Forecast(config, CARDS["h100"], backbone(config), SIZES).per_token

    assert taken() == taken("trainer.chunked_head=true") < taken("trainer.chunked_head=false")


def test_the_command_marks_what_is_measured_and_what_is_not(capsys: pytest.CaptureFixture) -> None:
    assert main(["model=llama2_7b_chat", "budget=paper", "variant=full", "card=h100"]) == 0
    shown = capsys.readouterr().out
    assert "| sl | 2,910 | 32.0 M |" in shown and "6.74 billion parameters" in shown
    assert "measured: 798 TFLOP/s" in shown and "estimate: 6,253 samples" in shown and "estimate: GB and hours" in shown
    assert "does not fit" not in shown
    assert main(["model=llama2_7b_chat", "budget=paper", "variant=full", "card=rtx4090"]) == 0
    shown = capsys.readouterr().out
    assert "does not fit: rl, evaluate" in shown and "estimate: 130 TFLOP/s" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["card=h1000"], "card=h1000: did you mean 'h100'?"),
        (["dataset=steam"], "dataset=steam: its samples are not counted; run the same words with stage=instructions"),
        (["model=flan_t5_xl", "variant=v2"], "causal language models alone"),
    ],
)
def test_what_cannot_be_forecast_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_finished_instructions_are_counted(
    builder: InstructionBuilder, catalogue: Catalogue, chat_format: ChatFormat, tmp_path: Path
) -> None:
    config = compose("variant=full", f"output={tmp_path}")
    steps = plan(config)
    assert counted(config, steps) is None
    data, made = steps["data"].directory, steps["instructions"].directory
    for folder in (data, made):
        folder.mkdir(parents=True)
    chat_format.tokenizer.save_pretrained(data / "tokenizer")
    builder.sequences.save(data / "sequences.jsonl", catalogue)
    examples = builder.epoch(0, ["sequential"])
    write_jsonl(made / "instructions.jsonl", (example.record(catalogue) for example in examples))
    (made / "counts.json").write_text(json.dumps({"total": len(examples)}))
    sizes = counted(config, steps)
    assert sizes is not None and (sizes.samples, sizes.users, sizes.source) == (len(examples), 25, "counted")
    responses = chat_format.responses([example.response for example in examples])
    assert sizes.response == pytest.approx(sum(map(len, responses)) / len(examples))
    prompts = chat_format.prompts([example.instruction.messages for example in examples])
    assert sizes.tokens - sizes.response == pytest.approx(sum(map(len, prompts)) / len(examples), rel=0.1)
    rows = [
        row | {"test": None if number < 4 else 2} for number, row in enumerate(read_jsonl(data / "sequences.jsonl"))
    ]
    write_jsonl(data / "sequences.jsonl", rows)
    fewer = counted(config, steps)
    assert fewer is not None and fewer.users == 21
