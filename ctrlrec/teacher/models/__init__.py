"""Sequential recommenders that can be the teacher, one module each; ``TEACHERS`` holds them by ``teacher.model``."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from ctrlrec.config.choices import Choices
from ctrlrec.config.options import typed_options
from ctrlrec.config.schema import TeacherConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.models.base import DESCRIPTION, WEIGHTS, TeacherModel

TEACHERS: Mapping[str, type[TeacherModel]] = Choices("teacher.models", "TEACHER")


def make_teacher(config: TeacherConfig, items: int, length: int) -> TeacherModel:
    """Return an untrained teacher; its weights are drawn from torch's global generator.

    Args:
        config: names the model and holds its options.
        items: size of the catalogue.
        length: most items of a history.

    Raises:
        CtrlRecError: for options that the model does not have.
    """
    kind = TEACHERS[config.model]
    return kind(items, length, typed_options(kind.Options, config.options, "teacher.options"))


def load_teacher(directory: Path) -> TeacherModel:
    """Return the teacher that :meth:`TeacherModel.save` wrote, in evaluation mode.

    Raises:
        CtrlRecError: if one of the two files is missing, broken or does not fit the other.
    """
    try:
        made = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        kind = TEACHERS[made["model"]]
        model = kind(made["items"], made["length"], typed_options(kind.Options, made["options"], "options"))
        model.load_state_dict(load_file(directory / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, CtrlRecError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise CtrlRecError(
            f"{directory}: no usable teacher in {DESCRIPTION} and {WEIGHTS} ({reason}); make the teacher stage again"
        ) from None
    return model.eval()
