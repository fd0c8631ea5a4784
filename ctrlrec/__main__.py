"""The one entry point: compose, validate, run the stages a request needs; or a command such as ``recommend``.

``python -m ctrlrec --help`` lists every choice and key; ``ctrlrec`` is the same as ``python -m ctrlrec``.
"""

import logging
import os
import re
import signal
import sys
import warnings
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverrideParseException
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ctrlrec.app.commands import command_of
from ctrlrec.config.choices import nearest
from ctrlrec.config.compose import validate
from ctrlrec.config.files import choices_of, conf_directory
from ctrlrec.config.options import option_keys
from ctrlrec.config.schema import Config, known_keys
from ctrlrec.config.selection import check_selection
from ctrlrec.config.words import explain_several, literal, sweep_advice
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import launcher
from ctrlrec.runtime.faults import storage_fault
from ctrlrec.runtime.printing import guard_output

log = logging.getLogger("ctrlrec")


def explain(error: Exception) -> str:
    """Return one or two lines for a composition error, with the nearest valid choice or the word to type."""
    text = str(error)
    if found := re.search(r"CtrlRecError raised while resolving interpolation: (.*)", text):
        return f"output: {found[1]}"
    if found := re.search(r"Interpolation key '(.*)' not found", text):
        return f"${{{found[1]}}} stands for the value of a key, and there is no key '{found[1]}'"
    if found := re.search(r"hydra_plugins\.hydra_(joblib|submitit|ray)_launcher", text):
        return f"this launcher is not installed: pip install 'ctrlrec[{found[1]}]'"
    if found := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, choice = found.groups()
        options = sorted(choices_of(group))
        advice = sweep_advice(group, choice) or f"; {nearest(choice, options)} ({', '.join(options)})"
        return f"{group}={choice}: no such choice{advice}"
    if found := re.search(r"Could not (?:override|append to config|delete)[^']*'([^'=]+)", text):
        key = found[1]
        if key in known_keys():
            return f"{key} has a value already: leave the + away"
        return f"unknown key '{key}': {nearest(key, option_keys(key) or known_keys())}"
    if found := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return explain_several(found[1])
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: expected key=value or group=choice; a value with other characters needs quotes for the "
            "shell and for Hydra: key='\"...\"'"
        )
    cause = f": {str(error.__cause__).splitlines()[0]}" if error.__cause__ else ""
    return " ".join(text.split("\n")[:2]) + cause


@hydra.main(version_base="1.3", config_path=str(conf_directory()), config_name="config")
def run(composed: DictConfig) -> None:
    """Validate one composed configuration and run what it asks for."""
    try:
        check_selection(HydraConfig.get().overrides.task)
        config = validate(composed)
        _check_names(config)
        from ctrlrec.pipeline import run as pipeline  # imported late: --help and typos must not wait for torch

        pipeline.run(config)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # its other rows continue; Hydra raises after the last
            log.error("failed: %s", " ".join(str(error).splitlines()[:2]) or type(error).__name__)
        raise


def _check_names(config: Config) -> None:
    """Refuse a choice that goes by another one's name: in tables its numbers would stand as that one's.

    Raises:
        CtrlRecError: naming the key, and the choice it would be taken for.
    """
    choices = HydraConfig.get().runtime.choices
    for group in ("variant", "model", "budget"):
        name = getattr(config, group).name
        if name != choices[group] and name in choices_of(group):
            raise CtrlRecError(
                f"{group}={choices[group]} {group}.name={name}: that is the name of {group}={name}, and tables would "
                f"take one for the other; set {group}.name to a name of its own, such as {choices[group]}"
            )


class Terminated(SystemExit):
    """SIGTERM arrived: unwinds like Ctrl-C, so that files are whole, locks free and loggers closed."""


def _terminate(signal_number: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # leaving takes a moment; a second one must not cut it short
    raise Terminated(143)


def main() -> int:
    """Run the command line; the exit status is 0, 1 after an error, 130 after Ctrl-C, 143 after SIGTERM."""
    guard_output()
    try:
        command = command_of(sys.argv[1:])
    except CtrlRecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if command is not None:
        return command()
    # argparse takes a flag after overrides for an error
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    sys.argv[1:] = literal(sys.argv[1:], sweeps=sys.argv[1:2] in (["-m"], ["--multirun"]))
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"  # a GPU's blocks of changing sizes leave no holes
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach the handlers below instead of Hydra's own printer
    logging.raiseExceptions = False  # a log file on a full disk must not bury the error in tracebacks of its own
    # conf/hydra/launcher is checked against the installed launcher's schema of the same name, and Hydra warns of that.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/", category=UserWarning)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if launcher.rank():  # its folder of logs is that of process 0
            sys.argv += ["hydra/job_logging=disabled", "hydra.run.dir=."]
        run()
    except CtrlRecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "Unknown plugin class" not in str(error):
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # Hydra's own folders and log file
        advice = "set output= to a folder that can be written to"
        print(f"error: {storage_fault(error) or error}; {advice}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Terminated) as stop:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    finally:
        logging.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
