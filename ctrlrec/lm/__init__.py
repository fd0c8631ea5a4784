"""Language models: backbone and tokenizer, chat format, adapters, generation, parsing of answers."""
