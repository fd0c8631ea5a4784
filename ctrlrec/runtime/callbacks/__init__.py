"""Callbacks of Lightning that ``trainer.callbacks`` may name: a module here, or in a plug-in, defines ``CALLBACK``.

Those shipped only observe. One that stops training early has no place here: its schedule would not be the configured.
"""

from collections.abc import Mapping

from pytorch_lightning.callbacks import Callback

from ctrlrec.config.choices import Choices

CALLBACKS: Mapping[str, type[Callback]] = Choices("runtime.callbacks", "CALLBACK")
