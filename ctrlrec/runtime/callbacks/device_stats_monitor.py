"""Log memory and load of the device."""

from pytorch_lightning.callbacks import DeviceStatsMonitor

CALLBACK = DeviceStatsMonitor
