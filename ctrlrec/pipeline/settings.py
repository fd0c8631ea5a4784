"""Parts of the configuration that determine results of several stages."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config
from ctrlrec.config.split import data_label
from ctrlrec.controls.registry import own_families
from ctrlrec.runtime.files import folder_digest
from ctrlrec.runtime.hardware import settled

CONSTRAINED = {"sl": "sl.constrained", "rl": "rl.constrained", "evaluate": "evaluation.constrained"}  # keys by stage


def tokenizer_settings(config: Config) -> dict[str, Any]:
    """Return what decides the tokenizer."""
    model = config.model
    settings = {"kind": model.kind, "path": model.path, "revision": model.revision, "vocabulary": model.vocabulary}
    if model.kind != "llama_mini":  # its chat template holds neither
        settings |= {"thinking": model.thinking, "template_date": model.template_date}
    return _by_files(settings, but=(".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack"))


def model_settings(config: Config) -> dict[str, Any]:
    """Return what decides the backbone: the type that its weights get on this device, and the files of a local one."""
    return _by_files(plain(settled(config)))


def _by_files(settings: dict[str, Any], but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return settings with the digest of a local model's files in place of its path, which has many spellings."""
    path = settings["path"]
    if path is None or not Path(path).is_dir():
        return settings
    files = folder_digest(Path(path), but)
    return {**{key: value for key, value in settings.items() if key != "path"}, "files": files}


def without(node: Any, *names: str) -> dict[str, Any]:
    """Return a section without what cannot change the result."""
    return {key: value for key, value in plain(node).items() if key not in names}


def dialogues(config: Config) -> dict[str, Any]:
    """Return the digest of a chat file or the name of a hub data set as ``chat_path``; nothing without a path."""
    from ctrlrec.instructions.chat import source_digest

    path = config.instructions.chat_path
    return {"chat_path": source_digest(path) or path} if path is not None else {}


def instruction_set(config: Config) -> dict[str, Any]:
    """Return what is a row's own: a baseline's instructions, added controls; nothing for what all other rows share."""
    name, own = config.variant.instructions, own_families(config.variant.tasks)
    return ({"set": name} if name != "paper" else {}) | ({"families": "+".join(own)} if own else {})


def constrained(config: Config, stage: str) -> dict[str, Any]:
    """Return what a model may write in a stage; nothing if it may write anything or no model answers.

    Args:
        config: of a run or of a finished result.
        stage: its name.
    """
    node: Any = config
    asked = stage in CONSTRAINED and OmegaConf.select(node, CONSTRAINED[stage], default=stage == "evaluate")
    free = OmegaConf.select(node, "constraint.name", default="none") == "none"
    return {} if free or not asked or config.variant.answers_with != "model" else {"constraint": plain(node.constraint)}


def constraint_label(config: Config, stage: str) -> str:
    """Return the end of a label that names the constraint of a stage; empty without one."""
    return f"-{config.constraint.name}" if constrained(config, stage) else ""


def trainer_additions(config: Config) -> dict[str, Any]:
    """Return callbacks and further arguments of Lightning's trainer; nothing if there are none."""
    added = {"callbacks": plain(config.trainer.callbacks), "extra": plain(config.trainer.extra)}
    return {"trainer": added} if any(added.values()) else {}


def labelled(config: Config, *parts: str) -> str:
    """Return a label for results on one data set, backbone and instruction set."""
    return "-".join(
        (
            data_label(config.dataset),
            config.model.name,
            *instruction_set(config).values(),
            *parts,
        )
    )
