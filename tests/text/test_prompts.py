"""Prompts by name, and what is refused as one."""

import pytest

from ocrsmith.errors import SettingsError
from ocrsmith.text.prompts import FREE_OCR, IMAGE_TOKEN, PROMPTS, find_prompt, locate


def test_named_prompts_are_those_of_the_model() -> None:
    assert PROMPTS["free_ocr"] == FREE_OCR == "<image>\nFree OCR."
    assert PROMPTS["markdown"] == "<image>\n<|grounding|>Convert the document to markdown."
    assert all(prompt.count(IMAGE_TOKEN) == 1 and prompt == prompt.strip() for prompt in PROMPTS.values())


def test_find_prompt_takes_names_and_texts() -> None:
    assert find_prompt("figure") == PROMPTS["figure"]
    assert find_prompt("<image>\n读出发票号。") == "<image>\n读出发票号。"


def test_find_prompt_refuses_a_text_without_an_image() -> None:
    with pytest.raises(SettingsError, match="neither the name of a prompt") as caught:
        find_prompt("free-ocr")
    assert "free_ocr" in str(caught.value)


def test_locate() -> None:
    assert locate("the total") == "<image>\nLocate <|ref|>the total<|/ref|> in the image."


@pytest.mark.parametrize("label", ["", "  ", "a<|/ref|>b", "<image>"])
def test_locate_refuses_labels_that_break_the_prompt(label: str) -> None:
    with pytest.raises(SettingsError, match="cannot be searched for"):
        locate(label)
