"""Datasets of the hub, without a network: a folder of the same name takes the place of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import datasets
from ocrsmith.datasets.importers.base import Candidate, ImportOptions
from ocrsmith.datasets.importers.hub import FORMAT, looks_like_hub, open_hub
from ocrsmith.errors import DataError, MissingExtraError
from ocrsmith.records import Excluded


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No request leaves this machine, and nothing is kept between tests."""
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield
    datasets.disable_progress_bars()


def save(folder: Path, split: str, png: Any, count: int = 3, **columns: list[Any]) -> list[dict[str, Any]]:
    """Writes a split as Parquet with the Image feature, as the hub has it; gives its rows."""
    shift = len(split) * 10
    images = [{"bytes": png(shade=shift + number), "path": f"{split}{number}.png"} for number in range(count)]
    texts = [f"{split} {number} 文" for number in range(count)]
    table = {"image": images, "text": texts, **columns}
    made = datasets.Dataset.from_dict(table).cast_column("image", datasets.Image(decode=False))
    (folder / "data").mkdir(parents=True, exist_ok=True)
    made.cast_column("image", datasets.Image()).to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return [{"image": image, "text": text} for image, text in zip(images, texts, strict=True)]


def read(name: str, **options: Any) -> list[Candidate]:
    found = list(open_hub(name, ImportOptions(**options)).read())
    assert all(isinstance(item, Candidate) for item in found), found
    return [item for item in found if isinstance(item, Candidate)]


def test_rows_of_all_splits_with_their_encoded_images(tmp_path: Path, png: Any) -> None:
    rows = save(tmp_path / "owner/name", "train", png) + save(tmp_path / "owner/name", "test", png, 2)
    source = open_hub("owner/name", ImportOptions())
    assert (source.kind, source.path) == ("hub", Path("owner/name"))
    assert "train, test" in source.notes[0]
    found = read("owner/name")
    assert [(item.image, item.text) for item in found] == [(row["image"]["bytes"], row["text"]) for row in rows]
    assert [(item.source, item.line) for item in found][2:4] == [
        ("owner/name/train", 3),
        ("owner/name/test", 1),
    ]
    assert read("owner/name") == found  # each time from the start


def test_one_split_and_other_columns(tmp_path: Path, png: Any) -> None:
    save(tmp_path / "owner/name", "train", png, words=["a", "b", "c"], lang=["fr", "de", None])
    save(tmp_path / "owner/name", "test", png, words=["d", "e", "f"], lang=["x", "y", "z"])
    found = read("owner/name::train", text_column="words")
    assert [item.text for item in found] == ["a", "b", "c"]
    assert found[0].meta == {"text": "train 0 文", "lang": "fr"}
    assert [item.text for item in read("owner/name:default:train", text_column="words")] == ["a", "b", "c"]


def test_images_that_are_files_of_their_own(tmp_path: Path, png: Any) -> None:
    """An image folder streams paths, not bytes; local ones stay paths, for the checks to judge."""
    folder = tmp_path / "owner/name/train"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(png())
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n', encoding="utf-8")
    (found,) = read("owner/name")
    assert found.text == "x"
    image = found.image if isinstance(found.image, bytes) else found.image.read_bytes()  # type: ignore[union-attr]
    assert image == png()


def test_files_of_the_repository_are_fetched_from_it_alone(
    tmp_path: Path, png: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    from ocrsmith.datasets.importers import hub

    asked: list[str] = []

    def opened(path: str) -> Any:
        asked.append(path)
        if "gone" in path:
            raise FileNotFoundError(path)
        return (tmp_path / "a.png").open("rb")

    monkeypatch.setattr(fsspec, "open", opened)
    (tmp_path / "a.png").write_bytes(png())
    base = Candidate(image=None, image_path="", text="x", source="owner/name", line=1)

    def fetched(path: str) -> Candidate | Excluded:
        from dataclasses import replace

        return hub._with_bytes(replace(base, image=Path(path), image_path=path))

    inside = fetched("hf://datasets/owner/name@1/a.png")
    assert isinstance(inside, Candidate)
    assert inside.image == png()
    packed = fetched("zip://a.png::hf://datasets/owner/name@1/a.zip")
    assert isinstance(packed, Candidate)
    assert packed.image == png()
    assert isinstance(fetched("hf://datasets/owner/name@1/gone.png"), Excluded)
    asked.clear()
    for path in ("https://example.org/a.png", "/etc/passwd", "file:///etc/passwd", "zip://a::https://x/hf://y"):
        assert fetched(path) == Candidate(Path(path), path, "x", "owner/name", 1)
    assert asked == []


def test_missing_columns_are_listed(tmp_path: Path, png: Any) -> None:
    save(tmp_path / "owner/name", "train", png)
    with pytest.raises(DataError, match="'image', 'text'"):
        open_hub("owner/name", ImportOptions(text_column="words"))


def test_an_unknown_split_or_config_is_explained(tmp_path: Path, png: Any) -> None:
    save(tmp_path / "owner/name", "train", png)
    with pytest.raises(DataError, match="val") as caught:
        open_hub("owner/name::val", ImportOptions())
    assert "owner/name::split" in (caught.value.mend or "")
    with pytest.raises(DataError) as caught:
        open_hub("owner/name:nine", ImportOptions())
    assert "owner/name:config" in (caught.value.mend or "")


def test_code_of_a_dataset_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "owner/name"
    folder.mkdir(parents=True)
    (folder / "name.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(DataError):
        open_hub("owner/name", ImportOptions())
    assert not (tmp_path / "ran").exists()


def test_old_versions_that_may_run_code_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "__version__", "2.19.0")
    with pytest.raises(DataError, match="too old"):
        open_hub("owner/name", ImportOptions())


def test_damage_on_the_way_says_after_which_row(tmp_path: Path, png: Any) -> None:
    save(tmp_path / "owner/name", "train", png, 40)
    source = open_hub("owner/name", ImportOptions())
    found = source.read()
    next(found)
    file = tmp_path / "owner/name/data/train-00000-of-00001.parquet"
    file.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(DataError, match="cannot be read") as caught:
        list(source.read())
    assert "owner/name, split train, after 0 rows" in (caught.value.place or "")


def test_without_a_network_it_says_so_and_what_to_do(tmp_path: Path) -> None:
    """In a process of its own, as the environment is read only once."""
    code = (
        "from ocrsmith.datasets.importers.base import ImportOptions\n"
        "from ocrsmith.datasets.importers.hub import open_hub\n"
        "from ocrsmith.errors import DataError\n"
        "try:\n    open_hub('owner/none', ImportOptions())\n"
        "except DataError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert "The hub cannot be reached" in run.stdout
    assert "where: owner/none" in run.stdout
    assert "save_to_disk" in run.stdout


def test_without_the_package_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError) as caught:
        open_hub("owner/name", ImportOptions())
    assert "ocrsmith[datasets]" in (caught.value.mend or "")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("owner/name", True),
        ("owner/name-v1.5", True),
        ("owner/name:config", True),
        ("owner/name:config:split", True),
        ("owner/name::split", True),
        ("labels/train.csv", False),
        ("name", False),
        ("/data/name", False),
        ("a/b/c", False),
        ("../name", False),
        ("owner/name:a:b:c", False),
        ("https://example.org/x", False),
    ],
)
def test_names_of_the_hub(name: str, is_one: bool) -> None:
    assert looks_like_hub(name) is is_one
    assert not FORMAT.recognises(Path(name), b"")


def test_other_names_are_refused() -> None:
    with pytest.raises(DataError, match="no name of a dataset"):
        open_hub("a/b/c", ImportOptions())
