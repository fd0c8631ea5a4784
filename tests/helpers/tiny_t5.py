"""Writes an encoder-decoder small enough for tests into a folder that transformers loads."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import SentencePieceUnigramTokenizer
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration


def write_t5(folder: Path, texts: Sequence[str], seed: int = 0) -> None:
    """A random T5 of hidden size 32, and a tokenizer that learnt ``texts``; its embeddings have no spare row."""
    pieces = SentencePieceUnigramTokenizer()
    pieces.train_from_iterator(texts, vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(seed)
    shape = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    T5ForConditionalGeneration(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
