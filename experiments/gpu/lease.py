"""What a GPU that is lent for minutes is asked, part by part: python lease.py env|correct|smollm2|llama2_7b|real.

Reads WORLD, a folder with one finished ``data`` and one ``teacher`` result, and writes OUT/PART.json: each finding at
once, and a failure is a finding. With SMALL=1 the sizes are those of a rehearsal, on a CPU too. polars, wandb and
datasets are not needed: stages are called directly.
"""

import gc
import importlib.metadata
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ctrlrec.config.compose import compose
from ctrlrec.config.schema import Config
from ctrlrec.generation.decoder import decode as decoder
from ctrlrec.generation.decoder.decode import decode
from ctrlrec.generation.engines import Setup, make_engine
from ctrlrec.generation.engines.base import in_order
from ctrlrec.lm.adapters import ACTOR, using, with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.scoring import check_head, keeps_apart
from ctrlrec.pipeline import evaluate, rl, sl
from ctrlrec.pipeline.cards import SHAPES
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.rl.train import align
from ctrlrec.runtime.faults import halving
from ctrlrec.runtime.hardware import autocast
from ctrlrec.sl.module import response_loss
from ctrlrec.sl.stream import collate, encode
from ctrlrec.sl.train import fine_tune

SMALL, CUDA = bool(os.environ.get("SMALL")), torch.cuda.is_available()
OUT, WORLD = Path(os.environ.get("OUT", "lease")), Path(os.environ.get("WORLD", "runs"))
SCRATCH = OUT / "scratch"
DEVICE = torch.device("cuda" if CUDA else "cpu")
TINY = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
findings: dict[str, Any] = {}


def inputs() -> dict[str, Path]:
    return {stage: next(path for path in (WORLD / stage).iterdir() if path.is_dir()) for stage in ("data", "teacher")}


def composed(*words: str) -> Config:
    where = () if CUDA else ("trainer=cpu", "trainer.threads=1")
    return compose("variant=full", "logger=csv", "trainer.profile=true", f"cache={SCRATCH}/cache", *where, *words)


def check(name: str, work: Callable[[], Any]) -> None:
    begin = time.perf_counter()
    try:
        findings[name] = work()
    except Exception as error:
        findings[name] = f"FAILED {type(error).__name__}: {str(error)[:300]}"
        traceback.print_exc()
    gc.collect()
    torch.cuda.empty_cache()
    print(f"[{time.perf_counter() - begin:6.1f} s] {name}: {findings[name]}", flush=True)
    (OUT / f"{sys.argv[1]}.json").write_text(json.dumps(findings, indent=1))


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Return the median of several runs after one that warms up."""
    taken = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        work()
        if CUDA:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return sorted(taken[1:])[times // 2]


def peak() -> float | None:
    return torch.cuda.max_memory_allocated() / 1e9 if CUDA else None


def env() -> None:
    for package in ("torch", "transformers", "peft", "trl", "pytorch-lightning"):
        check(package, lambda name=package: importlib.metadata.version(name))
    side = 8192 if CUDA else 256
    if CUDA:
        check("card", lambda: f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 1e9:.1f} GB")
    a, b = torch.randn(2, side, side, dtype=torch.bfloat16, device=DEVICE)
    check("TFLOP/s of bfloat16 products", lambda: 2 * side**3 / seconds(lambda: a @ b) / 1e12)
    check("TB/s of a copy", lambda: 2 * 2 * a.numel() / seconds(lambda: b.copy_(a)) / 1e12)
    small = torch.ones(8, device=DEVICE)
    check("microseconds a launch", lambda: seconds(lambda: [small + 1 for _ in range(1000)]) * 1e3)


def tiny_model(chat_format: ChatFormat) -> PreTrainedModel:
    """Return a random model whose predictions differ clearly from token to token, as a folder for whole stages too."""
    torch.manual_seed(0)
    tokens = {"bos_token_id": None, "eos_token_id": chat_format.end, "pad_token_id": chat_format.pad}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(chat_format.tokenizer), **TINY, **tokens)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "norm" in name else 3)
    model.save_pretrained(SCRATCH / "tiny")
    chat_format.tokenizer.save_pretrained(SCRATCH / "tiny")
    return model


def correct() -> None:
    """The same as on a CPU; then whole stages with their trainers, RL stopped and resumed."""
    builder, chat_format = load_builder(composed("trainer.matmul_precision=highest"), inputs())
    model = tiny_model(chat_format)
    asked = builder.rollout_prompts(0, 8, (5, 10))
    rows = encode(builder.epoch(0, ("sequential", "category"))[:8], chat_format)

    def greedy(engine: str) -> list[Any]:
        with make_engine(engine, Setup(chat_format, 40, model)) as made:
            return in_order(made.answers(made.prompts(asked)))

    expected = greedy("native")
    loss = response_loss(model, collate(rows, chat_format.pad, "packed"))[0].item()
    model.to(DEVICE)

    def same(engine: str) -> str:
        equal = sum(one.tokens == other.tokens for one, other in zip(greedy(engine), expected, strict=True))
        assert equal == 8, f"{equal} of 8 greedy answers are equal"
        return "8 of 8 greedy answers are equal"

    def error(layout: Any, mixed: bool) -> float:
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=mixed):
            found = response_loss(model, collate(rows, chat_format.pad, layout).to(DEVICE))[0].item() / loss - 1
        assert abs(found) < (1e-2 if mixed else 1e-4), found
        return found

    for engine in ("native", "hf"):
        check(f"engine {engine}", lambda engine=engine: same(engine))
    for layout, mixed in (("packed", False), ("padded", False), ("packed", True)):
        check(f"error of the loss, {layout}, mixed={mixed}", lambda layout=layout, mixed=mixed: error(layout, mixed))
    check("head", lambda: check_head(model))
    check("samples of a row apart", lambda: keeps_apart(model) or 1 / 0)
    if CUDA:
        size = 2**35
        filled = lambda n: iter([torch.empty(n * size, device=DEVICE).numel() // size])  # noqa: E731
        check("shortage of memory", lambda: next(halving(filled, 64)))
    whole_stages(
        "correct", "model=hf", f"model.path={SCRATCH}/tiny", "model.name=tiny", "model.max_response_length=64",
        "generation.max_new_tokens=64", "sl.max_steps=6", "sl.validations=2", "sl.batch_size=16", "rl.iterations=4",
        "instructions.validation_size=4", "rl.prompts=4", "rl.warmup_iterations=0", "evaluation.users=4",
        "evaluation.settings=[sequential,about_30]", resume=True,
    )  # fmt: skip


def whole_stages(name: str, *words: str, resume: bool = False) -> None:
    """SL, RL and evaluation as the pipeline runs them; what they log goes to OUT."""
    made = inputs()
    for module in (sl, rl, evaluate):
        stage = module.STAGE.name
        folder = SCRATCH / name / stage
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run, config = module.run, composed(*words)
        if stage == "rl" and resume:
            half = composed(*words, "rl.iterations=2", "rl.schedule_iterations=4")
            check(f"{name}: rl, first half", lambda run=run, half=half, at=folder: run(half, made, at))
        check(f"{name}: {stage}", lambda run=run, config=config, at=folder: run(config, made, at))
        made[stage] = folder
        for file in (*folder.glob("logs/*.md"), *folder.glob("logs/*/metrics.csv"), *folder.glob("metrics.json")):
            shutil.copy(file, OUT / f"{name}-{stage}-{file.parent.name}-{file.name}")


def speed(shape: str) -> None:
    """Time SL, decoding and RL of random weights of a published shape, each through the stage's own trainer."""
    words = ["model=smollm2_135m", "budget=paper", "sl.validations=1", "instructions.validation_size=8"]
    words += ["sl.max_steps=8", "rl.iterations=3", "rl.warmup_iterations=0", "model.max_response_length=160"]
    words += ["sl.batch_size=4", "rl.prompts=1", "rl.minibatches=1", "model.max_response_length=16"] if SMALL else []
    builder, chat_format = load_builder(composed(*words), inputs())

    def model() -> PreTrainedModel:
        settings = LlamaConfig(**TINY) if SMALL else SHAPES[shape]
        settings.vocab_size, settings.pad_token_id = len(chat_format.tokenizer), chat_format.pad
        with DEVICE:
            torch.manual_seed(0)
            return LlamaForCausalLM(settings).to(torch.bfloat16).eval()

    def trained(stage: Callable[..., None], *more: str) -> dict[str, Any]:
        folder = SCRATCH / "speed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        config, backbone = composed(*words, *more), model()
        if config.model.attention is not None:
            backbone.set_attn_implementation(config.model.attention)
        stage(config, backbone, chat_format, builder, folder, [])
        return {"peak GB": peak(), "profile": (folder / "logs" / "profile.md").read_text().splitlines()}

    for more in ((), ("sl.micro_batch_size=4", f"sl.micro_tokens={4 * 256}")):
        check(f"SL {' '.join(more)}", lambda more=more: trained(fine_tune, *more))
    check("RL", lambda: trained(align))
    prompts = chat_format.prompts([row.messages for row in builder.rollout_prompts(0, 64, (10, 10))])

    def decoding(rows: int) -> dict[str, Any]:
        actor = with_actor_and_critic(model(), 4, 2)
        asked = [prompts[row % len(prompts)] for row in range(rows)]
        with using(actor, ACTOR), autocast(composed().trainer):
            short, long = (seconds(lambda n=n: decode(actor, asked, (), n, 0.7), 3) for n in (4, 36))
        return {"seconds a step": (long - short) / 32, "prefill and 4 steps": short, "peak GB": peak()}

    for rows in (2, 4) if SMALL else (16, 64, 256):
        check(f"decoding {rows} rows", lambda rows=rows: decoding(rows))
    if not CUDA:
        return
    # What is on by default, off; then what is off by default, on.
    graphed, decoder._CAPTURED = decoder._CAPTURED, ()
    check("decoding 16 rows without a graph", lambda: decoding(16))
    decoder._CAPTURED = graphed
    for word in ("trainer.chunked_head=false", "trainer.workers=2", "model.attention=varlen", "trainer.compile=true"):
        check(f"SL {word}", lambda word=word: trained(fine_tune, word))


def real() -> None:
    """SmolLM2 itself: what a run of minutes teaches it."""
    steps, iterations = os.environ.get("STEPS", "400"), os.environ.get("ITERATIONS", "20")
    whole_stages(
        "real", "model=smollm2_135m", "budget=paper", f"sl.max_steps={steps}", "sl.validations=2",
        f"rl.iterations={iterations}", "rl.warmup_iterations=0", "rl.minibatches=1", "generation.batch_size=256",
        "instructions.validation_size=16", "evaluation.users=200", "generation.max_new_tokens=176",
        "evaluation.settings=[sequential,category_positive]",
    )  # fmt: skip


PARTS: dict[str, Callable[[], None]] = {
    "env": env,
    "correct": correct,
    "smollm2": lambda: speed("smollm2_wheel"),
    "llama2_7b": lambda: speed("meta-llama/Llama-2-7b-chat-hf"),
    "real": real,
}

if __name__ == "__main__":
    SCRATCH.mkdir(parents=True, exist_ok=True)
    PARTS[sys.argv[1]]()
    sys.exit(any(str(finding).startswith("FAILED") for finding in findings.values()))
