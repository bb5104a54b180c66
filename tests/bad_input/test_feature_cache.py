"""Feature caches that are damaged, foreign, full or not to be written: rebuilt or refused, never wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ocrsmith.errors import DataError, OutputError
from ocrsmith.training import feature_store
from ocrsmith.training.collate import TrainingSamples
from ocrsmith.training.feature_cache import FeatureCache
from ocrsmith.training.feature_shards import write_shard
from ocrsmith.training.feature_store import FeatureStore, image_key

from ..permissions import run_bound
from ..training.conftest import digits, make_model, processor  # noqa: F401

ABOUT = {"encoder": "e"}
KEYS = [image_key(bytes([number])) for number in range(3)]
NEEDS = dict.fromkeys(KEYS, 7)
FEATURES = {key: torch.full((7, 4), number + 1.0) for number, key in enumerate(KEYS)}


def open_store(root: Path, **options) -> FeatureStore:
    return FeatureStore(root, ABOUT, dtype=torch.float32, hidden_size=4, **options)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A sound shard of three entries."""
    with open_store(tmp_path) as store:
        for key, rows in FEATURES.items():
            store.add(key, rows)
    (path,) = tmp_path.glob("*/shard-*.safetensors")
    return path


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def blank(path: Path) -> None:
    """As after a crash of the machine: the length is there, the last page is not."""
    content = path.read_bytes()
    path.write_bytes(content[:-64] + bytes(64))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: cut(path, 0),
    "cut in its length": lambda path: cut(path, 5),
    "cut in its header": lambda path: cut(path, 60),
    "one byte short": lambda path: cut(path, path.stat().st_size - 1),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a header length out of this world": lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
    "a length of zero": lambda path: path.write_bytes(bytes(8) + path.read_bytes()[8:]),
    "not JSON": lambda path: flip(path, 8),
    "a page of zeros": blank,
    "one bit in the first entry": lambda path: flip(path, path.stat().st_size - 3 * 112 + 5),
    "one bit in the last entry": lambda path: flip(path, path.stat().st_size - 1),
    "text": lambda path: path.write_text("features, features, features"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_shard_is_removed_and_rebuilt(tmp_path: Path, shard: Path, how: str) -> None:
    DAMAGE[how](shard)
    store = open_store(tmp_path)
    assert store.require(NEEDS) == set(KEYS)
    assert len(store.notes) == 1
    assert "damaged" in store.notes[0]
    assert "encoded again" in store.notes[0]
    assert not shard.exists()
    with store:
        for key, rows in FEATURES.items():
            store.add(key, rows)
    again = open_store(tmp_path)
    assert again.require(NEEDS) == set()
    assert all(torch.equal(again[key], rows) for key, rows in FEATURES.items())
    assert not again.notes


def test_every_flipped_bit_of_a_header_is_found_or_harmless(tmp_path: Path, shard: Path) -> None:
    sound = shard.read_bytes()
    for place in range(8 + int.from_bytes(sound[:8], "little")):
        shard.write_bytes(sound)
        flip(shard, place)
        store = open_store(tmp_path)
        absent = store.require(NEEDS)
        assert all(torch.equal(store[key], FEATURES[key]) for key in KEYS if key not in absent), place


def test_entries_that_changed_places_are_not_taken_for_each_other(tmp_path: Path, shard: Path) -> None:
    content = shard.read_bytes()
    first, second = KEYS[0].encode(), KEYS[1].encode()
    swapped = content.replace(first, b"@" * 64).replace(second, first).replace(b"@" * 64, second)
    assert swapped != content
    # the checksums move with their names, so that only their own content can tell
    shard.write_bytes(swapped)
    assert open_store(tmp_path).require(NEEDS) == set(KEYS)


def test_features_of_other_lengths_are_not_taken(tmp_path: Path, shard: Path) -> None:
    assert open_store(tmp_path).require({KEYS[0]: 8}) == {KEYS[0]}


def test_a_sound_copy_serves_where_another_is_damaged(tmp_path: Path, shard: Path) -> None:
    shutil.copy(shard, shard.with_name("shard-zz.safetensors"))
    flip(shard, shard.stat().st_size - 1)
    store = open_store(tmp_path)
    assert store.require(NEEDS) == set()
    assert torch.equal(store[KEYS[2]], FEATURES[KEYS[2]])


def test_a_shard_of_another_collection_is_left_alone(tmp_path: Path, shard: Path) -> None:
    foreign = shard.with_name("shard-foreign.safetensors")
    write_shard(foreign, "another collection", {key: rows * 100 for key, rows in FEATURES.items()})
    shard.unlink()
    store = open_store(tmp_path)
    assert store.require(NEEDS) == set(KEYS)
    assert foreign.exists()
    assert "is left alone" in store.notes[0]


def test_foreign_files_are_left_alone(tmp_path: Path, shard: Path) -> None:
    strangers = [tmp_path / "notes.txt", shard.with_name("model.safetensors"), tmp_path / "shard-1.safetensors"]
    for path in strangers:
        path.write_text("something else")
    (tmp_path / "folder").mkdir()
    shard.with_name("shard-folder.safetensors").mkdir()
    store = open_store(tmp_path, limit=10_000)
    assert store.require(NEEDS) == set()
    with store:
        store.add(image_key(b"new"), FEATURES[KEYS[0]])
    assert all(path.read_text() == "something else" for path in strangers)


@pytest.mark.parametrize("content", ['{"encoder": "of another model"}', "[]", "{", "\xff"])
def test_a_folder_that_claims_another_model_is_refused(tmp_path: Path, shard: Path, content: str) -> None:
    file = shard.with_name("collection.json")
    file.write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match="does not say that it is of this model") as caught:
        open_store(tmp_path)
    assert caught.value.place == str(file)
    assert "delete" in str(caught.value.mend)


def test_a_cache_of_another_model_is_not_used(tmp_path: Path, make_model, processor) -> None:  # noqa: F811
    samples = TrainingSamples(digits(3), processor, [0, 1, 2])
    options = {"batch_size": 2, "workers": 0}
    other = FeatureCache.build(make_model(1), samples, **options, folder=tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    mine = FeatureCache.build(make_model(0), samples, **options, folder=tmp_path)
    right = FeatureCache.build(make_model(0), samples, **options)
    assert all(torch.equal(mine(number), right(number)) for number in range(3))
    # also if someone gives it the name of this model's
    (own,) = (path for path in tmp_path.iterdir() if path.is_dir() and path != folder)
    shutil.rmtree(own)
    folder.rename(own)
    with pytest.raises(DataError, match="does not say that it is of this model"):
        FeatureCache.build(make_model(0), samples, **options, folder=tmp_path)
    assert not torch.equal(other(0), right(0))


def test_a_damaged_cache_is_rebuilt_by_a_run(tmp_path: Path, make_model, processor) -> None:  # noqa: F811
    samples = TrainingSamples(digits(3), processor, [0, 1, 2])
    options = {"batch_size": 2, "workers": 0, "folder": tmp_path}
    right = [FeatureCache.build(make_model(), samples, **options)(number).clone() for number in range(3)]
    (path,) = tmp_path.glob("*/shard-*.safetensors")
    flip(path, path.stat().st_size - 9)
    cache = FeatureCache.build(make_model(), samples, **options)
    assert all(torch.equal(cache(number), right[number]) for number in range(3))
    assert "damaged" in cache.notes[0]
    assert not FeatureCache.build(make_model(), samples, **options).notes


class TestDisk:
    """Full disks and forbidden folders."""

    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, *_: object) -> None:
            raise feature_store.OutputError("The disk is full: No space.", place=str(path), mend="free some")

        monkeypatch.setattr(feature_store, "write_shard", refuse)

    @pytest.mark.usefixtures("full")
    def test_a_full_disk_ends_encoding_ahead(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.add(KEYS[0], FEATURES[KEYS[0]])
        with pytest.raises(OutputError, match="The disk is full"):
            store.close()

    @pytest.mark.usefixtures("full")
    def test_a_run_goes_on_in_memory_and_says_so(self, tmp_path: Path, make_model, processor) -> None:  # noqa: F811
        samples = TrainingSamples(digits(3), processor, [0, 1, 2])
        options = {"batch_size": 2, "workers": 0}
        cache = FeatureCache.build(make_model(), samples, **options, folder=tmp_path)
        plain = FeatureCache.build(make_model(), samples, **options)
        assert all(torch.equal(cache(number), plain(number)) for number in range(3))
        (note,) = cache.notes
        assert note.startswith("The disk is full")
        assert note.endswith("for this run only.")
        with pytest.raises(OutputError, match="The disk is full"):
            FeatureCache.build(make_model(), samples, **options, folder=tmp_path, strict=True)

    def test_a_write_that_fails_half_way_leaves_nothing(self, tmp_path: Path) -> None:
        code = f"""
import resource, torch
from pathlib import Path
from ocrsmith.errors import OutputError
from ocrsmith.training.feature_store import FeatureStore
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
store = FeatureStore(Path({str(tmp_path)!r}), {{}}, dtype=torch.float32, hidden_size=4)
store.add("a" * 64, torch.ones(1000, 4))
try:
    store.close()
except OutputError as error:
    print(error.problem)
"""
        result = run_bound("-c", code)
        assert "The disk is full" in result.stdout, result.stderr
        assert [path.name for path in tmp_path.glob("*/*")] == ["collection.json"]

    def test_a_folder_that_may_not_be_written(self, tmp_path: Path, shard: Path) -> None:
        code = f"""
import torch
from pathlib import Path
from ocrsmith.errors import OutputError
from ocrsmith.training.feature_store import FeatureStore
store = FeatureStore(Path({str(tmp_path)!r}), {ABOUT!r}, dtype=torch.float32, hidden_size=4)
print(len(store.require({NEEDS!r})))
store.add("a" * 64, torch.ones(7, 4))
try:
    store.close()
except OutputError as error:
    print(error.problem)
"""
        folders = [tmp_path, shard.parent]
        for folder in folders:
            os.chmod(folder, 0o500)
        try:
            result = run_bound("-c", code)
        finally:
            for folder in folders:
                os.chmod(folder, 0o700)
        absent, problem = result.stdout.splitlines()
        assert absent == "0", "what is there can be read"
        assert "no permission to write" in problem

    @pytest.mark.parametrize("below", ["", "deeper/still"])
    def test_a_file_where_the_folder_should_be(self, tmp_path: Path, below: str) -> None:
        file = tmp_path / "file"
        file.write_text("kept")
        with pytest.raises(OutputError, match="cannot be written: Not a directory"):
            open_store(file / below)
        assert file.read_text() == "kept"


def test_the_collection_says_what_it_is(shard: Path) -> None:
    about = json.loads(shard.with_name("collection.json").read_text())
    assert about == {**ABOUT, "dtype": "torch.float32", "hidden_size": 4}
