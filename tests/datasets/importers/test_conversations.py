"""Conversations about images: ShareGPT, LLaVA, OpenAI and Hugging Face messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets.importers.base import Candidate, ImportOptions
from ocrsmith.datasets.importers.conversations import FORMAT
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

REAL = Path(__file__).parents[3].parent / "shared/data/formats/sharegpt"
FREE_OCR = "<image>\nFree OCR."


def read(folder: Path, *items: Any) -> list[Candidate | Excluded]:
    file = folder / "chat.json"
    file.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    return list(FORMAT.open(file, ImportOptions()).read())


def candidates(folder: Path, *items: Any) -> list[Candidate]:
    return [item for item in read(folder, *items) if isinstance(item, Candidate)]


def left_out(folder: Path, item: Any) -> Excluded:
    found = [item for item in read(folder, llava(), item) if isinstance(item, Excluded)]
    assert len(found) == 1
    return found[0]


def llava(*values: str, **others: Any) -> dict[str, Any]:
    """A conversation whose sides take turns."""
    turns = [
        {"from": ("human", "gpt")[number % 2], "value": value}
        for number, value in enumerate(values or (FREE_OCR, "the text"))
    ]
    return {"conversations": turns, "image": "a.png", **others}


def messages(*contents: Any, **others: Any) -> dict[str, Any]:
    turns = [
        {"role": ("user", "assistant")[number % 2], "content": content}
        for number, content in enumerate(contents)
    ]
    return {"messages": turns, **others}


def test_the_users_turn_is_the_prompt_and_the_assistants_the_text(tmp_path: Path) -> None:
    (found,) = candidates(tmp_path, llava(id="s1", lang="fr"))
    assert (found.prompt, found.text, found.image, found.id) == (FREE_OCR, "the text", tmp_path / "a.png", "s1")
    assert (found.group, found.meta, found.line) == ("", {"lang": "fr"}, 1)


def test_a_question_that_is_nothing_but_the_image_takes_the_datasets_prompt(tmp_path: Path) -> None:
    assert [item.prompt for item in candidates(tmp_path, llava("<image>\n", "x"), llava("", "y"))] == [
        None,
        None,
    ]


def test_an_image_that_no_turn_mentions_belongs_to_the_first_question(tmp_path: Path) -> None:
    (found,) = candidates(tmp_path, llava("Free OCR.", "x"))
    assert found.prompt == FREE_OCR


def test_later_questions_are_about_the_image_before(tmp_path: Path) -> None:
    first, second = candidates(tmp_path, llava("<image>Title?", "T", "And the date?", "1905", id="s"))
    assert (first.prompt, second.prompt) == ("<image>Title?", "<image>\nAnd the date?")
    assert (first.image_path, second.image_path) == ("a.png", "a.png")
    assert (first.id, second.id) == ("s#1", "s#2")
    assert first.group == second.group != ""


def test_later_questions_about_one_of_several_images_are_no_guess(tmp_path: Path) -> None:
    item = llava("<image>A?", "a", "<image>B?", "b", "And?", "c", image=None, images=["a.png", "b.png"])
    first, second, third = read(tmp_path, item)
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert (first.image_path, second.image_path) == ("a.png", "b.png")
    assert isinstance(third, Excluded)
    assert (third.reason, third.line) == ("several_images", 1)


def test_the_same_image_twice_is_one_image(tmp_path: Path) -> None:
    item = llava("<image>A?", "a", "B?<image>", "b", "C?", "c", image=None, images=["a.png", "a.png"])
    assert [found.prompt for found in candidates(tmp_path, item)] == ["<image>A?", "B?<image>", "<image>\nC?"]


@pytest.mark.parametrize(
    ("parts", "others"),
    [
        ([{"type": "image", "image": "a.png"}, {"type": "text", "text": "Free OCR."}], {}),
        ([{"type": "text", "text": "Free OCR."}, {"type": "image_url", "image_url": {"url": "a.png"}}], {}),
        ([{"type": "image_url", "value": "a.png"}, {"type": "text", "value": "Free OCR."}], {}),
        ([{"type": "image_url", "image_url": "a.png"}, {"type": "text", "text": "Free OCR."}], {}),
        ([{"type": "image", "url": "a.png"}, "Free OCR."], {}),
        ([{"type": "image"}, {"type": "text", "text": "Free OCR."}], {"images": ["a.png"]}),
        ([{"type": "image"}, {"type": "text", "text": "Free OCR."}], {"images": [{"path": "a.png"}]}),
        ([{"type": "text", "text": "Free OCR."}], {"image": "a.png"}),
        (FREE_OCR, {"images": ["a.png"]}),
    ],
)
def test_contents_in_parts(tmp_path: Path, parts: Any, others: dict[str, Any]) -> None:
    (found,) = candidates(tmp_path, messages(parts, [{"type": "text", "text": "x"}], **others))
    assert (found.prompt, found.text, found.image) == (FREE_OCR, "x", tmp_path / "a.png")


def test_system_turns_are_noted_in_meta(tmp_path: Path) -> None:
    item = messages(FREE_OCR, "x", images=["a.png"])
    item["messages"].insert(0, {"role": "system", "content": "You read."})
    (found,) = candidates(tmp_path, item)
    assert found.meta == {"system": "You read."}
    source = FORMAT.open(tmp_path / "chat.json", ImportOptions())
    assert "not in the prompt" in source.notes[0]
    (other,) = candidates(tmp_path, llava(system="You read."))
    assert other.meta == {"system": "You read."}


@pytest.mark.parametrize(
    ("item", "reason", "words"),
    [
        (llava(image=None), "malformed", "0 images, but <image> stands in it 1 times"),
        (llava(FREE_OCR, "x", image=None, images=["a.png", "b.png"]), "malformed", "2 images, but"),
        (llava("Free OCR.", "x", image=None), "missing", "no image"),
        (llava("<image><image>Both?", "x", images=["a.png", "b.png"]), "several_images", "2 images"),
        (llava("Both?", "x", images=["a.png", "b.png"]), "several_images", "2 images"),
        (llava("<image>", image="a.png"), "malformed", "no answer"),
        (llava(videos=["a.mp4"]), "malformed", "videos"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "malformed", "'tool'"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "malformed", "no question"),
        ({"conversations": []}, "malformed", "no turns"),
        ({"conversations": "x"}, "malformed", "no turns"),
        ({"image": "a.png", "text": "x"}, "malformed", "no turns"),
        (messages(5, "x"), "malformed", "neither text nor"),
        (messages([{"type": "video", "video": "a.mp4"}], "x"), "malformed", "'video'"),
        (messages([{"type": "image", "image": "data:image/png;base64,@"}], "x"), "malformed", "base64"),
    ],
)
def test_what_cannot_be_used_goes_to_the_ledger(tmp_path: Path, item: Any, reason: str, words: str) -> None:
    found = left_out(tmp_path, item)
    assert (found.reason, found.line) == (reason, 1)
    assert words in found.detail


def test_two_questions_in_a_row_cost_the_first(tmp_path: Path) -> None:
    item = llava("<image>A?", "a")
    item["conversations"].insert(0, {"from": "human", "value": "Hello"})
    first, second = read(tmp_path, item)
    assert isinstance(first, Excluded)
    assert isinstance(second, Candidate)
    assert second.prompt == "<image>A?"


def test_recognition(tmp_path: Path) -> None:
    def recognised(value: Any) -> bool:
        file = tmp_path / "a.json"
        file.write_text(json.dumps(value), encoding="utf-8")
        return FORMAT.recognises(file, file.read_bytes()[:8192])

    assert recognised([llava()])
    assert recognised(messages("<image>", "x", images=["a.png"]))
    assert recognised([{"image": "data:image/png;base64," + "A" * 20_000, **messages("x", "y")}])
    assert not recognised([{"image": "a.png", "text": "x", "messages": "three"}])
    assert not recognised([{"image": "a.png", "text": '"messages": ['}])


def test_other_json_is_refused_with_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"image": "a.png", "text": "x"}]', encoding="utf-8")
    with pytest.raises(DataError, match="'image', 'text'"):
        FORMAT.open(tmp_path / "a.json", ImportOptions())


@pytest.mark.skipif(not REAL.is_dir(), reason="the real samples of ../shared/data are not here")
@pytest.mark.parametrize(("name", "conversations"), [("mllm_demo.json", 6), ("v1_multimodal_demo.jsonl", 24)])
def test_real_files(name: str, conversations: int) -> None:
    """Both hold two pairs a conversation; the oracle is the file itself, read whole."""
    text = (REAL / name).read_text(encoding="utf-8")
    items = (
        json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines() if line]
    )
    answers = []
    for item in items:
        for turn in item["messages"]:
            content = turn["content"]
            if turn["role"] == "assistant":
                answers.append(content if isinstance(content, str) else content[0]["value"])
    assert FORMAT.recognises(REAL / name, text.encode()[:8192])
    found = [item for item in FORMAT.open(REAL / name, ImportOptions()).read() if isinstance(item, Candidate)]
    assert [item.text for item in found] == answers
    assert len(found) == 2 * conversations
    for item in found:
        assert isinstance(item.image, Path)
        assert item.image.is_file()
        assert (item.prompt or "").count("<image>") == 1
        assert "data/mllm" not in str(item.image.relative_to(REAL))
