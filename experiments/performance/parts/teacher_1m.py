"""The same for a generated set of a million interactions, a fixed few epochs of each: what an epoch costs."""

from measuring import Metric

from parts import teacher

METRICS = (Metric("seconds_an_epoch", "s", more=False, target=10), Metric("peak_bytes", "bytes", more=False))
_DATA = ["dataset=records", "dataset.name=generated"]
FULL = {"data": _DATA, "generated": [6000, 3700, 1_000_000], "epochs": 1}
QUICK = {"data": _DATA, "generated": [60, 40, 1000], "epochs": 1}
SIDES, prepare = teacher.SIDES, teacher.prepare
