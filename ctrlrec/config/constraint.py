"""Checks of where a constraint is in force (spec section 11)."""

from omegaconf import OmegaConf

from ctrlrec.config.schema import Config
from ctrlrec.errors import CtrlRecError


def check_constraint(config: Config) -> None:
    """Refuse a constraint that cannot hold, and training under none.

    Raises:
        CtrlRecError: naming the keys and what to change.
    """
    name, variant = config.constraint.name, config.variant
    if name == "none":
        for section in ("sl", "rl"):
            if OmegaConf.select(config, f"{section}.constrained"):  # type: ignore[arg-type]
                raise CtrlRecError(
                    f"{section}.constrained=true constraint.name=none: there is nothing to train under; choose a "
                    f"constraint, or set {section}.constrained=false"
                )
        return
    if variant.rl and config.rl.constrained and (guide := config.rl.guided_row) != "none":
        raise CtrlRecError(
            f"rl.guided_row={guide} constraint.name={name} rl.constrained=true: samples that obey a constraint need no "
            "guide; set rl.guided_row=none or rl.constrained=false"
        )
    if variant.rl and config.rl.constrained and config.rl.corrected_row:
        raise CtrlRecError(
            f"rl.corrected_row=true constraint.name={name} rl.constrained=true: answers that obey a constraint need no "
            "correction; set rl.corrected_row=false or rl.constrained=false"
        )
    if variant.beam_search and name == "control" and config.evaluation.constrained:
        raise CtrlRecError(
            f"variant={variant.name} constraint.name=control: its items are beams, each found "
            "alone; use constraint.name=fresh"
        )
    if variant.instructions == "instructrec" and config.sl.constrained:
        raise CtrlRecError(
            f"variant={variant.name} sl.constrained=true: its instructions ask for more than lists; set "
            "sl.constrained=false"
        )
