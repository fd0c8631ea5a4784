"""Print the layers of the model with their sizes before training."""

from pytorch_lightning.callbacks import ModelSummary

CALLBACK = ModelSummary
