"""What the parts share: a finished teacher on MovieLens-100K or on generated interactions, a builder, a backbone."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ctrlrec.config import compose as composing
from ctrlrec.config.schema import Config
from ctrlrec.pipeline import run as stages
from ctrlrec.runtime.files import write_text

Sizes = dict[str, Any]


def compose(scratch: Path, *overrides: str) -> Config:
    """A configuration whose results go to the scratch folder."""
    return composing.compose(f"output={scratch}/runs", "logger=csv", "trainer.progress=false", *overrides)


def directories(config: Config) -> dict[str, Path]:
    """Results of the requested stage and those before it, made where they are missing."""
    return {name: result.directory for name, result in stages.run(config).items()}


def load(config: Config) -> Any:
    """Builder, chat format and untrained policy, as the stages SL and RL load them."""
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.pipeline.loading import load_builder
    from ctrlrec.runtime.hardware import settled

    inputs = directories(config)
    builder, chat_format = load_builder(config, inputs)
    model = load_policy(settled(config), Path(config.cache).expanduser(), chat_format.tokenizer, config.seed)
    return builder, chat_format, model


def generated(scratch: Path, users: int, items: int, interactions: int) -> Path:
    """A records folder: item popularity is log-normal, and an item is often followed by one of its neighbours."""
    folder = scratch / f"generated-{users}-{items}-{interactions}"
    if folder.exists():
        return folder
    random = np.random.default_rng(0)
    weights = np.cumsum(random.lognormal(0, 1.3, items))
    each = interactions // users
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / "interactions.csv").open("w") as file:
        file.write("user,item,timestamp\n")
        for user in range(users):
            popular = np.searchsorted(weights, random.random(2 * each) * weights[-1])
            walk = np.where(random.random(2 * each) < 0.5, popular, (np.roll(popular, 1) + 1) % items)
            taken = list(dict.fromkeys(walk.tolist()))[:each]
            file.writelines(f"u{user},i{item},{place}\n" for place, item in enumerate(taken))
    rows = ({"item": f"i{item}", "title": f"Film {item}", "categories": [f"Kind {item % 18}"]} for item in range(items))
    write_text(partial / "items.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    partial.rename(folder)
    return folder
