"""Checks of a backbone before anything is trained, without its weights."""

import json
from importlib.util import find_spec
from pathlib import Path

from ctrlrec.config.checks import nearest
from ctrlrec.config.schema import Config
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.hardware import check_accelerator, device, precision, settled

# Of transformers, and our varlen; a name with a slash is a kernel of the hub.
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "varlen")
_ADAPTER = "adapter_config.json"
_PACKAGES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "varlen": "torch.nn.attention.varlen",  # of torch itself
}


def check_backbone(config: Config) -> None:
    """Refuse a backbone that cannot be loaded as it is asked for.

    Raises:
        CtrlRecError: for a GPU that is not there, a folder without a readable model, an attention that cannot be
            computed here, or a model that cannot do what the row needs.
    """
    check_accelerator(config.trainer)
    if config.model.path is not None:
        check_folder(config.model.path)
    _check_attention(config)
    if config.model.kind in ("pretrained", "encoder_decoder"):
        from ctrlrec.lm.abilities import check_abilities

        check_abilities(config)


def check_folder(path: str) -> None:
    """Refuse a ``model.path`` that is neither a model's folder nor can be a hub id.

    Raises:
        CtrlRecError: for a folder that is missing, holds an adapter and no model, or whose model cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        if path.startswith(("/", ".", "~")) or path.count("/") > 1:
            raise CtrlRecError(f"model.path={path}: no such folder; a hub id is written owner/name")
        return
    refuse_adapter(path, folder / _ADAPTER if (folder / _ADAPTER).exists() else None)
    if not any((folder / name).exists() for name in ("config.json", "tokenizer_config.json")):
        raise CtrlRecError(f"model.path={path}: no model there, config.json is missing; name the folder that has it")
    record = folder / "config.json"
    try:
        known = "model_type" in json.loads(record.read_text(encoding="utf-8")) if record.exists() else True
    except (OSError, ValueError) as error:
        raise CtrlRecError(f"{record}: cannot be read ({error}); download the model again") from None
    if not known:
        raise CtrlRecError(f"{record}: no model_type in it, so it is not a model of transformers; check model.path")


def refuse_adapter(location: str, record: str | Path | None) -> None:
    """Refuse an adapter in place of a model: training would put its own adapters beside it and lose it.

    Args:
        location: folder or hub id.
        record: its ``adapter_config.json``; None if it is a whole model.

    Raises:
        CtrlRecError: naming the base and the command that merges the adapter.
    """
    if record is None:
        return
    base = json.loads(Path(record).read_text(encoding="utf-8")).get("base_model_name_or_path")
    raise CtrlRecError(
        f"model.path={location}: it is a PEFT adapter of {base} and no whole model; merge it first: python -m "
        f"ctrlrec.lm.merge {location} WHOLE, then set model.path=WHOLE"
    )


def _check_attention(config: Config) -> None:
    asked = config.model.attention
    if asked is None or "/" in asked:
        return
    if asked not in _ATTENTION:
        raise CtrlRecError(f"model.attention={asked}: {nearest(asked, _ATTENTION)}")
    if asked not in _PACKAGES:
        return
    if device(config.trainer).type == "cpu":
        raise CtrlRecError(
            f"model.attention={asked} needs a GPU, and this run has none; use model.attention=sdpa, or null for the "
            "default of transformers"
        )
    if precision(config.trainer) == "32-true" and settled(config).dtype == "float32":
        raise CtrlRecError(
            f"model.attention={asked} trainer.precision={config.trainer.precision} model.dtype={config.model.dtype}: "
            "it computes in bfloat16 alone; use trainer.precision=bf16-mixed, or model.attention=sdpa"
        )
    if find_spec(_PACKAGES[asked]) is None:
        raise CtrlRecError(
            f"model.attention={asked} needs the package {_PACKAGES[asked]}, which is not installed; install it, or use "
            "model.attention=sdpa"
        )
