"""`ocrsmith data export` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from ocrsmith.cli.data.export import export
from ocrsmith.datasets import BuildSettings, build_dataset
from ocrsmith.errors import SettingsError

app = typer.Typer()
app.command()(export)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    lines = []
    for number in range(4):
        Image.effect_noise((40, 20), 60 + number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png\ttext {number}" + (r"\nand more" if number == 3 else ""))
    (tmp_path / "content.md").write_text("\n".join(lines))
    settings = BuildSettings("rest/1/0", escapes=True, group_by="none")
    build_dataset([tmp_path / "content.md"], tmp_path / "data", settings)
    return tmp_path / "data"


def test_what_was_written_and_left_out_is_printed(dataset: Path, tmp_path: Path) -> None:
    words = [str(dataset), "-o", str(tmp_path / "out"), "--format", "paddle"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert f"{tmp_path / 'out'}: 3 samples as paddle" in done.output
    assert f"Left out: 1, listed in {tmp_path / 'out' / 'excluded.jsonl'}" in done.output
    assert "not_one_line: the text has line breaks or tabs" in done.output


def test_json_has_counts_and_notes(dataset: Path, tmp_path: Path) -> None:
    words = [str(dataset), "-o", str(tmp_path / "out"), "--format", "content", "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    found, _ = json.JSONDecoder().raw_decode(done.stdout)
    assert found["splits"] == {"train": 3, "val": 1, "test": 0}
    assert found["excluded"] == {}
    assert any("--escapes" in note for note in found["notes"])


def test_one_split_alone(dataset: Path, tmp_path: Path) -> None:
    words = [str(dataset), "-o", str(tmp_path / "out"), "--format", "sharegpt", "--split", "val"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "val.jsonl"]


def test_an_unknown_format_is_an_error_with_its_mend(dataset: Path, tmp_path: Path) -> None:
    words = [str(dataset), "-o", str(tmp_path / "out"), "--format", "coco"]
    with pytest.raises(SettingsError) as caught:
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert "content, sharegpt, paddle, folder, prefix" in (caught.value.mend or "")
