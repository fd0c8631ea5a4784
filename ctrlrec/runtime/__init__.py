"""What every stage stands on: files, processes, hardware, the trainer, loggers, provenance."""
