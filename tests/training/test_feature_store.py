"""The feature cache on disk: what comes out is what went in, whoever wrote it, and it stays in bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from copy import deepcopy
from pathlib import Path

import pytest
import safetensors
import torch
from torch.utils.data import DataLoader

from ocrsmith.errors import OutputError, SettingsError
from ocrsmith.model.lora import add_lora
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.settings.lora import LoraSettings
from ocrsmith.training import feature_cache
from ocrsmith.training.collate import Collator, TrainingSamples
from ocrsmith.training.feature_cache import (
    FeatureCache,
    describe_processing,
    encoder_digest,
    resampling_digest,
)
from ocrsmith.training.feature_store import FeatureStore, default_folder, image_key
from ocrsmith.training.survey import upright_size

from .conftest import byte_tokenizer, digits

ABOUT = {"encoder": "e", "processing": "p"}
HIDDEN = 8
ENTRY = 5 * HIDDEN * 4
"""Bytes of the features that `fill` adds for one key."""


def store_at(root: Path, **options) -> FeatureStore:
    options = {"dtype": torch.float32, "hidden_size": HIDDEN, **options}
    return FeatureStore(root, options.pop("about", ABOUT), **options)


def rows(number: int, tokens: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(tokens, HIDDEN, generator=torch.Generator().manual_seed(number)).to(dtype)


def key(number: int) -> str:
    return image_key(str(number).encode())


def fill(store: FeatureStore, *numbers: int) -> None:
    for number in numbers:
        store.add(key(number), rows(number))
    store.flush()


def shards(root: Path) -> list[Path]:
    return sorted(root.glob("*/shard-*.safetensors"))


def needs(*numbers: int) -> dict[str, int]:
    return {key(number): 5 for number in numbers}


class TestStore:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_another_process_reads_the_same_bytes(self, tmp_path: Path, dtype: torch.dtype) -> None:
        with store_at(tmp_path, dtype=dtype, shard_bytes=100) as store:
            for number in range(7):
                store.add(key(number), rows(number, tokens=number + 1, dtype=dtype))
        again = store_at(tmp_path, dtype=dtype)
        assert again.require({key(number): number + 1 for number in range(9)}) == {key(7), key(8)}
        for number in range(7):
            assert again[key(number)].dtype == dtype
            assert torch.equal(again[key(number)], rows(number, tokens=number + 1, dtype=dtype))
        assert len(shards(tmp_path)) > 1

    def test_a_shard_is_a_safetensors_file(self, tmp_path: Path) -> None:
        with store_at(tmp_path) as store:
            fill(store, 1, 2)
        (shard,) = shards(tmp_path)
        with safetensors.safe_open(shard, "pt") as file:
            assert set(file.keys()) == {key(1), key(2)}
            assert torch.equal(file.get_tensor(key(2)), rows(2))

    def test_what_waits_can_be_read_and_is_written_when_interrupted(self, tmp_path: Path) -> None:
        store = store_at(tmp_path)
        store.add(key(1), rows(1))
        assert torch.equal(store[key(1)], rows(1))
        assert shards(tmp_path) == []
        store.__exit__(KeyboardInterrupt)
        assert store_at(tmp_path).require(needs(1)) == set()

    def test_features_of_other_kinds_lie_apart(self, tmp_path: Path) -> None:
        variants = [
            {},
            {"about": {**ABOUT, "encoder": "f"}},
            {"about": {**ABOUT, "processing": "q"}},
            {"dtype": torch.bfloat16},
            {"hidden_size": 16},
        ]
        with store_at(tmp_path) as store:
            fill(store, 1)
        assert [key(1) in store_at(tmp_path, **options) for options in variants] == [True] + [False] * 4

    def test_it_can_be_handed_to_a_process(self, tmp_path: Path) -> None:
        with store_at(tmp_path) as store:
            fill(store, 1, 2)
        copy = deepcopy(store)
        assert torch.equal(copy[key(2)], rows(2))

    def test_many_shards_keep_no_files_open(self, tmp_path: Path) -> None:
        with store_at(tmp_path, shard_bytes=1) as store:
            fill(store, *range(40))
        before = len(os.listdir("/proc/self/fd"))
        again = store_at(tmp_path)
        assert len(again) == 40
        assert len(os.listdir("/proc/self/fd")) <= before + 1

    def test_several_processes_may_write_at_once(self, tmp_path: Path) -> None:
        processes = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), json.dumps(ABOUT), *span])
            for span in (("0", "30"), ("10", "40"))
        ]
        assert [process.wait(60) for process in processes] == [0, 0]
        store = store_at(tmp_path)
        assert store.require(needs(*range(40))) == set()
        assert all(torch.equal(store[key(number)], rows(number)) for number in range(40))
        assert not store.notes

    def test_readers_never_see_half_a_shard(self, tmp_path: Path) -> None:
        done = threading.Event()

        def write() -> None:
            with store_at(tmp_path, shard_bytes=1) as store:
                fill(store, *range(60))
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            reader = store_at(tmp_path)
            absent = reader.require(needs(*range(60)))
            assert not reader.notes
            assert all(torch.equal(reader[key(n)], rows(n)) for n in range(60) if key(n) not in absent)
        writer.join()

    def test_the_default_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HOME", "/home/someone")
        monkeypatch.delenv("OCRSMITH_CACHE", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert default_folder() == Path("/home/someone/.cache/ocrsmith/features")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_folder() == tmp_path / "ocrsmith" / "features"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert default_folder() == Path("/home/someone/.cache/ocrsmith/features")
        monkeypatch.setenv("OCRSMITH_CACHE", str(tmp_path / "mine"))
        assert default_folder() == tmp_path / "mine" / "features"


WRITER = """
import json, sys, torch
from pathlib import Path
from ocrsmith.training.feature_store import FeatureStore, image_key
root, about, start, stop = sys.argv[1:]
with FeatureStore(Path(root), json.loads(about), dtype=torch.float32, hidden_size=8, shard_bytes=1) as store:
    for number in range(int(start), int(stop)):
        rows = torch.randn(5, 8, generator=torch.Generator().manual_seed(number))
        store.add(image_key(str(number).encode()), rows)
"""


class TestBound:
    def write(self, root: Path, number: int, when: int, **options) -> Path:
        before = set(shards(root))
        with store_at(root, **options) as store:
            fill(store, number)
        (new,) = set(shards(root)) - before
        os.utime(new, (when, when))
        return new

    def test_the_longest_unused_goes_first(self, tmp_path: Path) -> None:
        first, second, third = (self.write(tmp_path, n, when=1000 + n) for n in range(3))
        other = self.write(tmp_path, 9, when=999, about={**ABOUT, "encoder": "another"})
        size = sum(path.stat().st_size for path in (first, second, third, other))
        store = store_at(tmp_path, limit=size + ENTRY // 2)
        store.require(needs(0))  # used now
        with store:
            fill(store, 5)
        assert not other.exists()
        assert {first, second, third} <= set(shards(tmp_path))
        store = store_at(tmp_path, limit=size - 1)
        store.require(needs(0, 5))
        with store:
            fill(store, 6)
        assert first.exists()
        assert not second.exists()
        assert sum(path.stat().st_size for path in shards(tmp_path)) <= size
        assert torch.equal(store[key(0)], rows(0))

    def test_what_a_run_needs_is_never_evicted(self, tmp_path: Path) -> None:
        kept = self.write(tmp_path, 0, when=1000)
        store = store_at(tmp_path, limit=kept.stat().st_size + ENTRY // 2)
        store.require(needs(0))
        store.add(key(1), rows(1))
        with pytest.raises(OutputError, match="would be kept, but the cache may take"):
            store.close()
        assert shards(tmp_path) == [kept]

    def test_with_spare_memory_a_run_goes_on(self, tmp_path: Path) -> None:
        with store_at(tmp_path, limit=1, spare_memory=3 * ENTRY, shard_bytes=1) as store:
            fill(store, 0, 1, 2)
            assert all(torch.equal(store[key(number)], rows(number)) for number in range(3))
            assert len(store.notes) == 1
            assert "kept in memory, for this run only" in store.notes[0]
            with pytest.raises(OutputError, match="the cache may take"):
                fill(store, 3)
        assert shards(tmp_path) == []

    def test_a_need_beyond_the_bound_is_told_before_the_work(self, tmp_path: Path) -> None:
        store = store_at(tmp_path, limit=3 * 2**30)
        with pytest.raises(OutputError, match=r"4\.0 GB of image features would be kept, .* 3\.0 GB") as caught:
            store.reserve(4 * 2**30)
        assert "cache_gb" in str(caught.value)
        store.reserve(2**20)
        with pytest.raises(OutputError, match="do not fit on the disk"):
            store_at(tmp_path).reserve(2**60)

    def test_a_reader_goes_on_when_its_shards_are_evicted(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, 0, when=1000)
        reader = store_at(tmp_path)
        reader.require(needs(0))
        with store_at(tmp_path, limit=path.stat().st_size) as store:
            fill(store, 1)
        assert not path.exists()
        assert torch.equal(reader[key(0)], rows(0))

    def test_leavings_of_a_killed_writer_are_cleared(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path, 0, when=1000).parent
        old, young = folder / ".shard-x.safetensors-old", folder / ".shard-x.safetensors-young"
        for path in (old, young):
            path.write_bytes(b"half")
        os.utime(old, (1000, 1000))
        with store_at(tmp_path) as store:
            fill(store, 1)
        assert not old.exists()
        assert young.exists()


class TestCache:
    def samples(self, processor: OcrProcessor, count: int = 5) -> TrainingSamples:
        return TrainingSamples(digits(count), processor, list(range(count)))

    def test_from_disk_it_is_what_was_encoded(self, make_model, processor, tmp_path: Path, monkeypatch) -> None:
        told: list[tuple[int, int]] = []
        options = {"batch_size": 2, "workers": 0, "folder": tmp_path}
        first = FeatureCache.build(make_model(), self.samples(processor), **options)
        plain = FeatureCache.build(make_model(), self.samples(processor), batch_size=2, workers=0)
        model = make_model()
        monkeypatch.setattr(model, "encode_images", lambda *_: pytest.fail("encoded again"))
        second = FeatureCache.build(
            model, self.samples(processor), **options, progress=lambda *now: told.append(now)
        )
        assert [item.input_ids for item in second.encoded] == [item.input_ids for item in plain.encoded]
        assert [item.labels for item in second.encoded] == [item.labels for item in plain.encoded]
        for number in range(5):
            assert torch.equal(first(number), plain(number))
            assert torch.equal(second(number), plain(number))
        assert first.nbytes == second.nbytes == plain.nbytes
        assert told == [(5, 5)]

    def test_only_what_is_missing_is_encoded(self, make_model, processor, tmp_path: Path) -> None:
        told: list[tuple[int, int]] = []
        options = {"batch_size": 2, "workers": 0, "folder": tmp_path}
        FeatureCache.build(make_model(), self.samples(processor, 3), **options)
        cache = FeatureCache.build(
            make_model(), self.samples(processor, 5), **options, progress=lambda *now: told.append(now)
        )
        assert told == [(4, 5), (5, 5), (5, 5)]
        assert len(cache.encoded) == 5

    def test_an_interruption_keeps_what_was_encoded(self, make_model, processor, tmp_path: Path) -> None:
        def interrupt(done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

        options = {"batch_size": 1, "workers": 0, "folder": tmp_path}
        with pytest.raises(KeyboardInterrupt):
            FeatureCache.build(make_model(), self.samples(processor), **options, progress=interrupt)
        told: list[tuple[int, int]] = []
        FeatureCache.build(
            make_model(), self.samples(processor), **options, progress=lambda *now: told.append(now)
        )
        assert told[0] == (4, 5)

    def test_equal_images_are_encoded_once(self, make_model, processor, tmp_path: Path) -> None:
        sample = digits(1)[0]
        samples = TrainingSamples([sample, sample, digits(2)[1]], processor, [0, 1, 2])
        cache = FeatureCache.build(make_model(), samples, batch_size=4, workers=0, folder=tmp_path)
        assert torch.equal(cache(0), cache(1))
        assert not torch.equal(cache(0), cache(2))
        assert cache.nbytes == 2 * FeatureCache.size_of(73, 32, torch.float32)
        (shard,) = shards(tmp_path)
        assert shard.stat().st_size < cache.nbytes + 2000

    def test_other_weights_or_settings_share_nothing(self, make_model, processor, tmp_path: Path) -> None:
        options = {"batch_size": 4, "workers": 0, "folder": tmp_path}
        one = FeatureCache.build(make_model(0), self.samples(processor), **options)
        two = FeatureCache.build(make_model(1), self.samples(processor), **options)
        low = FeatureCache.build(make_model(0), self.samples(processor), **options, autocast=torch.bfloat16)
        assert not torch.equal(one(0), two(0))
        assert not torch.equal(one(0), low(0))
        assert len(list(tmp_path.iterdir())) == 3 + 1  # and the lock

    def test_workers_and_the_loader_read_it(self, make_model, processor, tmp_path: Path) -> None:
        samples = self.samples(processor)
        samples.cache = FeatureCache.build(make_model(), samples, batch_size=2, workers=1, folder=tmp_path)
        loader = DataLoader(samples, batch_size=5, num_workers=1, collate_fn=Collator(processor, samples.cache))
        (batch,) = list(loader)
        assert torch.equal(batch["image_features"], torch.cat([samples.cache(n) for n in range(5)]))

    def test_gathering(self, make_model, processor) -> None:
        cache = FeatureCache.build(make_model(), self.samples(processor), batch_size=2, workers=0)
        expected = torch.cat([cache(3), cache(0), cache(3)])
        assert torch.equal(cache.gather([3, 0, 3]), expected)
        assert not cache.keep_on("cpu", cache.nbytes - 1)
        assert cache.keep_on("cpu", cache.nbytes)
        assert torch.equal(cache.gather([3, 0, 3]), expected)

    def test_a_model_in_bfloat16_keeps_bfloat16(self, make_model, processor, tmp_path: Path) -> None:
        model = make_model().to(torch.bfloat16)
        cache = FeatureCache.build(model, self.samples(processor), batch_size=2, workers=0, folder=tmp_path)
        assert cache(0).dtype == torch.bfloat16
        about = json.loads(next(tmp_path.glob("*/collection.json")).read_text())
        assert about["dtype"] == "torch.bfloat16"

    def test_an_encoder_with_an_adapter_is_refused(self, make_model, processor, tmp_path: Path) -> None:
        adapted = add_lora(make_model(), LoraSettings(r=2, targets=["attention", "projector"]))
        for folder in (None, tmp_path):
            with pytest.raises(SettingsError, match="the encoder has an adapter"):
                FeatureCache.build(
                    adapted.get_base_model(), self.samples(processor), batch_size=2, workers=0, folder=folder
                )

    def test_an_adapter_of_the_decoder_changes_nothing(self, make_model, processor) -> None:
        adapted = add_lora(make_model(), LoraSettings(r=2, targets=["attention", "routed_experts"]))
        assert encoder_digest(adapted.get_base_model()) == encoder_digest(make_model())


class TestIdentity:
    @pytest.mark.parametrize(
        "name",
        [
            *("sam_model.pos_embed", "vision_model.pre_layrnorm.weight", "projector.layers.bias"),
            *("image_newline", "view_seperator"),
        ],
    )
    def test_every_part_of_the_encoder_counts(self, make_model, name: str) -> None:
        model = make_model()
        with torch.no_grad():
            model.model.get_parameter(name).view(-1)[0] += 1
        assert encoder_digest(model) != encoder_digest(make_model())

    def test_the_decoder_does_not_count(self, make_model) -> None:
        model = make_model()
        with torch.no_grad():
            model.lm_head.weight.zero_()
            model.model.layers[0].input_layernorm.weight.zero_()
        assert encoder_digest(model) == encoder_digest(make_model())

    def test_what_decides_the_pixels_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def describe(**values) -> str:
            return json.dumps(describe_processing(ProcessingSettings(**values)))

        base = describe()
        assert describe(prompt="markdown", max_length=100) == base
        changes = [{"mode": "base"}, {"max_tiles": 6}, {"min_tiles": 3}, {"alpha": "drop"}]
        assert len({base, *(describe(**change) for change in changes)}) == 5
        assert describe(mode="base", max_tiles=6) == describe(mode="base")
        monkeypatch.setattr(feature_cache, "PROCESSING_VERSION", 2)
        assert describe() != base

    def test_other_resampling_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from PIL import Image

        before = resampling_digest()
        resampling_digest.cache_clear()
        assert resampling_digest() == before
        resampling_digest.cache_clear()
        resize = Image.Image.resize
        monkeypatch.setattr(
            Image.Image, "resize", lambda self, to, _: resize(self, to, Image.Resampling.BILINEAR)
        )
        assert resampling_digest() != before
        monkeypatch.undo()
        resampling_digest.cache_clear()


@pytest.mark.parametrize("mode", ["tiny", "gundam"])
def test_token_ids_without_pixels_are_those_with_them(mode: str) -> None:
    processor = OcrProcessor(byte_tokenizer(), ProcessingSettings(mode=mode))
    for sample in digits(3):
        size = upright_size(sample.image)
        alone = processor.encode_text(size, sample.prompt, sample.text)
        whole = processor.encode([sample.image], sample.prompt, sample.text)
        assert (alone.input_ids, alone.labels) == (whole.input_ids, whole.labels)
