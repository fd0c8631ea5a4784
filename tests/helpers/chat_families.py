"""Tokenizers whose chat templates behave as those of published families do: who may speak, and what ends a turn."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

_ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
TEMPLATES = {
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}" + _ALTERNATE + "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user')"
    " + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "llama3": "{{ bos_token }}{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|head|>system<|/head|>Today Date: ' + today + '\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}{{ '<|eot_id|>' }}"
    "{% for m in messages if m['role'] != 'system' %}{{ '<|head|>' + m['role'] + '<|/head|>' + m['content'] | trim "
    "+ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>' }}{% endif %}",
    "mistral": "{{ bos_token }}{% for m in messages %}" + _ALTERNATE + "{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
    "phi3": "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "qwen3": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
}
# The tokenizer's own end, then the one with which the template ends a turn.
ENDS = {
    "gemma": ("<eos>", "<end_of_turn>"), "llama3": ("<|eot_id|>", "<|eot_id|>"), "mistral": ("</s>", "</s>"),
    "phi3": ("<|endoftext|>", "<|end|>"), "qwen3": ("<|im_end|>", "<|im_end|>"),
}  # fmt: skip
_OTHERS = (
    "<s>", "<start_of_turn>", "<|head|>", "<|/head|>", "<|user|>", "<|assistant|>", "<|system|>", "<|im_start|>",
)  # fmt: skip


def family(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with the template and the special tokens of a family."""
    special = dict.fromkeys(("<pad>", *ENDS[name], *_OTHERS))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(list(special))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token=ENDS[name][0], pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATES[name]
    return tokenizer
