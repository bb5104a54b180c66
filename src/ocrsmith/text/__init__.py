"""Text: the prompts that the model knows, and the boxes in what it writes. No torch here."""

from ocrsmith.text.boxes import Box, GroundedSpan, parse_boxes
from ocrsmith.text.prompts import FREE_OCR, IMAGE_TOKEN, PROMPTS, find_prompt, locate

__all__ = [
    "FREE_OCR",
    "IMAGE_TOKEN",
    "PROMPTS",
    "Box",
    "GroundedSpan",
    "find_prompt",
    "locate",
    "parse_boxes",
]
