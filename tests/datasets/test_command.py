"""`ocrsmith data build` and `ocrsmith data show` as commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from ocrsmith.cli.main import main
from ocrsmith.datasets import open_dataset


def test_build_prints_counts_what_was_left_out_and_what_next(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = content(20)
    file.write_text(file.read_text() + "gone.png\tx [bold]y[/]\n")
    assert main(["data", "build", str(file), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "20 samples" in said.out
    assert "Left out: 1" in said.out
    assert f"{file}, line 21: missing" in said.out
    assert "datasets.load_dataset(" in said.out
    assert "text of image 0" in said.out
    assert "estimate" in said.out


def test_json_is_one_object_on_stdout(content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--splits", "rest/4/4", "--layout", "prefix", "--prefix", "p", "--seed", "7", "--json"]
    assert main(["data", "build", str(content(20)), "-o", str(out), *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["splits"] == {"train": 12, "val": 4, "test": 4}
    assert result["content_hash"] == open_dataset(out / "p").content_hash
    assert result["excluded"] == {}


def test_show_prints_the_first_samples(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = content(10)
    file.write_text(file.read_text().replace("text of image", "[red]text\u202e of image"))
    assert main(["data", "build", str(file), "-o", str(tmp_path / "out"), "--splits", "rest/1/1"]) == 0
    capsys.readouterr()
    assert main(["data", "show", str(tmp_path / "out"), "-n", "2", "--split", "train"]) == 0
    shown = capsys.readouterr().out
    assert "train, the first 2" in shown
    assert "[red]text\\u202e of image" in shown
    assert "40×20" in shown
    assert main(["data", "show", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["splits"] == {"train": 8, "val": 1, "test": 1}
    assert len(result["samples"]["train"]) == 3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with a tokenizer of one token a byte, a context of 300, and no weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    special = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<image>"]
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(special + alphabet)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    language = {"max_position_embeddings": 320, "vocab_size": len(vocabulary)}
    (folder / "config.json").write_text(json.dumps({"language_config": language, "vision_config": {}}))
    return folder


def test_a_model_counts_exactly(
    png: Any, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 1 bos + 273 image tokens + 10 bytes of prompt after the image ("\nFree OCR.") + text + 1 eos
    room = 320 - 1 - 273 - 10 - 1
    texts = ["x" * room, "x" * (room + 1), "é" * (room // 2), "é" * (room // 2 + 1), "a", "b"]
    for number in range(len(texts)):
        (tmp_path / f"{number}.png").write_bytes(png(shade=number))
    file = tmp_path / "content.md"
    file.write_text("".join(f"{number}.png\t{text}\n" for number, text in enumerate(texts)), encoding="utf-8")
    arguments = ["data", "build", str(file), "-o", str(tmp_path / "out"), "--model", str(model), "--json"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["excluded"] == {"too_long": 2}
    assert "320 tokens" in result["length_check"]
    ledger = [json.loads(line) for line in (tmp_path / "out/excluded.jsonl").read_text().splitlines()]
    assert [entry["line"] for entry in ledger] == [2, 4]
    assert "takes 321 tokens" in ledger[0]["detail"]


def test_a_model_that_is_not_there_is_an_error(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "no-model"
    assert main(["data", "build", str(content(3)), "-o", str(tmp_path / "out"), "--model", str(missing)]) == 2
    assert str(missing) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
