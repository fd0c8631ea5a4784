"""Log the learning rate of every parameter group."""

from pytorch_lightning.callbacks import LearningRateMonitor

CALLBACK = LearningRateMonitor
