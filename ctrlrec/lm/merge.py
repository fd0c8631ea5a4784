"""Writes whole models: ``python -m ctrlrec.lm.merge FOLDER OUT``.

The folder is that of a finished SL or RL stage, such as ``runs/rl/NAME``, or a PEFT adapter with its tokenizer.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, PreTrainedModel
from transformers.utils import ADAPTER_CONFIG_NAME

from ctrlrec.config.compose import validate
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.indexing import ITEM_TOKEN
from ctrlrec.lm.policy import load_policy
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.files import check_files
from ctrlrec.runtime.hardware import settled
from ctrlrec.runtime.printing import command
from ctrlrec.runtime.results import made_from
from ctrlrec.runtime.user import cache_folder, settle


def merge_stage(directory: Path, out: Path) -> None:
    """Fold a stage's adapters into its backbone and save model and tokenizer.

    Args:
        directory: of a finished ``sl`` or ``rl`` stage; its upstream directories are found through its provenance.
        out: folder to write, which must not exist.

    Raises:
        CtrlRecError: if the directory is not of such a stage, it or what it was made from was changed, or
            ``out`` exists.
    """
    record = directory / "provenance.json"
    if not record.exists():
        raise CtrlRecError(f"{directory}: no provenance.json there; give the directory of a finished sl or rl stage")
    if out.exists():
        raise CtrlRecError(f"{out}: exists; give a folder that does not")
    provenance = json.loads(record.read_text(encoding="utf-8"))
    config = validate(OmegaConf.create(provenance["config"]))
    settle(config.cache)
    upstream = made_from(directory, provenance["upstream"])
    if "instructions" not in upstream:
        raise CtrlRecError(f"{directory}: not an sl or rl stage")
    titles: Sequence[str] = ()
    if config.indexing.name == ITEM_TOKEN:
        titles = Catalogue.load(upstream["data"] / "catalogue.jsonl").titles
    chat_format = ChatFormat.load(upstream["data"] / "tokenizer", config.model, titles)
    sl, rl = (upstream["sl"], directory) if "sl" in upstream else (directory, None)
    for result in (*upstream.values(), directory):
        check_files(result)
    cache = cache_folder(config.cache)
    model = load_policy(
        settled(config), cache, chat_format.tokenizer, config.seed, sl, rl, fold=True, items=chat_format.items
    )
    save_whole(model, chat_format, out)


def save_whole(model: PreTrainedModel, chat_format: ChatFormat, out: Path) -> None:
    """Write a model as a server reads it, with all tokens that end its answers and those of items."""
    model.generation_config.eos_token_id = sorted(chat_format.ends)  # type: ignore[union-attr]
    model.save_pretrained(out)
    chat_format.whole_tokenizer().save_pretrained(out)


def merge_adapter(directory: Path, out: Path) -> None:
    """Fold a PEFT adapter into the base that it names, and save model and tokenizer.

    Args:
        directory: with ``adapter_config.json``, the adapter's weights and its tokenizer.
        out: folder to write, which must not exist.

    Raises:
        CtrlRecError: if the base or the tokenizer cannot be loaded, or ``out`` exists.
    """
    if out.exists():
        raise CtrlRecError(f"{out}: exists; give a folder that does not")
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        adapted: Any = AutoPeftModelForCausalLM.from_pretrained(directory, dtype="auto")
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CtrlRecError(f"{directory}: the adapter or its base cannot be loaded ({reason})") from None
    adapted.merge_and_unload().save_pretrained(out)
    tokenizer.save_pretrained(out)


@command
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ctrlrec.lm.merge", description=__doc__)
    parser.add_argument("directory", type=Path, help="directory of a finished sl or rl stage, or of a PEFT adapter")
    parser.add_argument("out", type=Path, help="folder for the whole model")
    arguments = parser.parse_args()
    with explained(arguments.out):
        adapter = (arguments.directory / ADAPTER_CONFIG_NAME).exists()
        (merge_adapter if adapter else merge_stage)(arguments.directory, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
