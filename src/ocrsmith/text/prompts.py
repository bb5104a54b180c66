"""The prompts that DeepSeek-OCR was trained with, by name, and the tokens that have a meaning in texts.

The format is plain: no roles, `<image>` where the picture stands, nothing between the prompt and the answer.
"""

from __future__ import annotations

from types import MappingProxyType

from ocrsmith.errors import SettingsError

IMAGE_TOKEN = "<image>"

FREE_OCR = "<image>\nFree OCR."
MARKDOWN = "<image>\n<|grounding|>Convert the document to markdown."
OCR_IMAGE = "<image>\n<|grounding|>OCR this image."
FIGURE = "<image>\nParse the figure."
DESCRIBE = "<image>\nDescribe this image in detail."

PROMPTS = MappingProxyType(
    {
        "free_ocr": FREE_OCR,
        "markdown": MARKDOWN,
        "ocr_image": OCR_IMAGE,
        "figure": FIGURE,
        "describe": DESCRIBE,
    }
)

LAYOUT_TOKENS = ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<td>", "</td>", "<tr>", "</tr>")
"""Tokens of an answer that carry content: labels use them, predictions keep them."""


def find_prompt(name_or_text: str) -> str:
    """The prompt of that name, or the text itself if it has `<image>` in it.

    Raises:
        SettingsError: for a text that is neither.
    """
    if name_or_text in PROMPTS:
        return PROMPTS[name_or_text]
    if IMAGE_TOKEN in name_or_text:
        return name_or_text
    raise SettingsError(
        f"{name_or_text!r} is neither the name of a prompt nor a prompt with {IMAGE_TOKEN} in it.",
        mend=f"Use one of {', '.join(PROMPTS)}, or a text such as {FREE_OCR!r}.",
    )


def locate(label: str) -> str:
    """The prompt that asks for the boxes of `label` in the image.

    Raises:
        SettingsError: if the label is empty or contains the marks around it.
    """
    marks = ("<|ref|>", "<|/ref|>", IMAGE_TOKEN)
    if not label.strip() or any(mark in label for mark in marks):
        raise SettingsError(
            f"{label!r} cannot be searched for.",
            mend=f"Give a text that is not empty and has none of {', '.join(marks)} in it.",
        )
    return f"{IMAGE_TOKEN}\nLocate <|ref|>{label}<|/ref|> in the image."
