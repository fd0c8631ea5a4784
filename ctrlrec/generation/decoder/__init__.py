"""Our decoder for Llama-like models: the engine ``native``."""
