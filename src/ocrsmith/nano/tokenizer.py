"""nano's tokenizer: byte-level BPE in which every character of the alphabet is exactly one token.

Nothing is learned from a corpus. The merges are written down by hand: a character of n bytes is reached by
merging its bytes from the left, and characters are kept apart before BPE, so no token spans two of them.
Any other character falls back to (prefixes of) its bytes, so every text survives a round trip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsmith.nano.alphabet import alphabet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"

# (token, special, normalized), as in DeepSeek-OCR's published tokenizer configuration, in its order.
ADDED_TOKENS: tuple[tuple[str, bool, bool], ...] = (
    ("<｜fim▁hole｜>", False, True),
    ("<｜fim▁begin｜>", False, True),
    ("<｜fim▁end｜>", False, True),
    ("<｜User｜>", False, True),
    ("<｜Assistant｜>", False, True),
    ("<|EOT|>", True, True),
    ("<｜tool▁calls▁begin｜>", False, True),
    ("<｜tool▁calls▁end｜>", False, True),
    ("<｜tool▁call▁begin｜>", False, True),
    ("<｜tool▁call▁end｜>", False, True),
    ("<｜tool▁outputs▁begin｜>", False, True),
    ("<｜tool▁outputs▁end｜>", False, True),
    ("<｜tool▁output▁begin｜>", False, True),
    ("<｜tool▁output▁end｜>", False, True),
    ("<｜tool▁sep｜>", False, True),
    ("<image>", True, False),
    ("<|ref|>", True, False),
    ("<|/ref|>", True, False),
    ("<|det|>", True, False),
    ("<|/det|>", True, False),
    ("<|grounding|>", True, False),
    ("<td>", True, False),
    ("</td>", True, False),
    ("<tr>", True, False),
    ("</tr>", True, False),
    ("<|User|>", True, False),
    ("<|Assistant|>", True, False),
)

MODEL_MAX_LENGTH = 8192


def byte_characters() -> list[str]:
    """For each byte the printable character by which byte-level BPE writes it (the GPT-2 table)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    table, spare = [], 0
    for byte in range(256):
        if byte in printable:
            table.append(chr(byte))
        else:
            table.append(chr(0x100 + spare))
            spare += 1
    return table


def build_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary (token → id) and the merges, in order of rank: shorter results come first."""
    table = byte_characters()
    vocabulary = {token: i for i, token in enumerate((BOS, EOS, PAD))}
    for character in table:
        vocabulary[character] = len(vocabulary)
    merges: dict[tuple[str, str], None] = {}
    written = ["".join(table[b] for b in c.encode()) for c in alphabet()]
    for length in (2, 3, 4):
        for token in written:
            if len(token) < length or token[:length] in vocabulary:
                continue
            merges[(token[: length - 1], token[length - 1])] = None
            vocabulary[token[:length]] = len(vocabulary)
    return vocabulary, list(merges)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """nano's tokenizer as a transformers fast tokenizer. Like the original it puts BOS before a text
    unless `add_special_tokens=False`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary, merges = build_vocabulary()
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (BOS, EOS, PAD)])
    for content, special, normalized in ADDED_TOKENS:
        token = AddedToken(content, special=special, normalized=normalized)
        (core.add_special_tokens if special else core.add_tokens)([token])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens=["<|User|>", "<|Assistant|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=MODEL_MAX_LENGTH,
    )
