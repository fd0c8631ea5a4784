"""Answers to prompts: who answers, what may be written, and how.

``engines`` answer, one file each, with ``decoder``, :mod:`~ctrlrec.generation.by_transformers`, vLLM or a ``server``;
``constraints`` limit what may be written, one file each; those over a catalogue use ``lists``.
"""
