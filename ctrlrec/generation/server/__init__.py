"""Asking a server that speaks chat completions: the engine ``api``."""
