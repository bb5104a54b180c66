"""`ocrsmith doctor`: what it finds here, and what it concludes about other machines."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ocrsmith.cli import doctor
from ocrsmith.cli.main import main

GB = doctor.GB
LORA = "fine-tune the 3B model (LoRA)"
READ = "read with the 3B model"
NANO = "quickstart; read and fine-tune nano"


def _gpu(size: float, *, bf16: bool = True) -> doctor.Gpu:
    return doctor.Gpu("Some GPU", int(size * GB), int(size * GB), "8.0", bf16, grouped_mm=bf16)


@pytest.fixture
def machine() -> doctor.Report:
    """A machine with everything installed, no GPU, 16 GB of memory."""
    extras = tuple(
        doctor.Extra(name, purpose, (), f"pip install 'ocrsmith[{name}]'")
        for name, (_, purpose) in doctor.EXTRAS.items()
    )
    return doctor.Report(
        ocrsmith="0.1.0",
        python="3.12.0",
        platform="Linux",
        cores=2,
        ram=16 * GB,
        disk_free=100 * GB,
        disk_place="/here",
        torch=doctor.Torch("2.13.0", None),
        pillow="13.0.0",
        hub_cache="/cache",
        hub_model_cached=False,
        nano_weights="nano/model.safetensors",
        extras=extras,
    )


def _verdicts(report: doctor.Report) -> dict[str, str]:
    return {ability.name: ability.verdict for ability in doctor.judge(report)}


def test_it_examines_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cores"] >= 1
    assert found["ram"] is None or found["ram"] > 0
    assert found["disk_free"] > 0
    assert found["pillow"]
    assert found["abilities"][0]["verdict"] == "yes"
    assert {extra["name"] for extra in found["extras"]} == set(doctor.EXTRAS)


def test_the_page_for_people_names_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("ocrsmith", "torch", "GPU", "CPU", "disk", "Pillow", "nano", "model cache", "Extras", "train"):
        assert word in out


def test_without_a_gpu_nano_is_for_the_cpu_and_3b_is_not(machine: doctor.Report) -> None:
    assert _verdicts(machine) == {
        "build datasets, score, compare": "yes",
        NANO: "yes",
        READ: "slow",
        LORA: "no",
    }


@pytest.mark.parametrize(
    ("size", "read", "lora", "remark"),
    [
        (4, "no", "no", "6 GB needed, in 4 bits"),
        (6, "no", "yes", "8 GB needed"),
        (8, "yes", "yes", "with --quantization nf4"),
        (9.7, "yes", "yes", "lines and small images"),
        (12, "yes", "yes", "lines and pages"),
        (141, "yes", "yes", "lines and pages"),
    ],
)
def test_what_a_gpu_can_do_follows_from_its_memory(
    machine: doctor.Report, size: float, read: str, lora: str, remark: str
) -> None:
    report = dataclasses.replace(machine, torch=doctor.Torch("2.13.0", "13.0", (_gpu(size),)))
    verdicts = _verdicts(report)
    assert (verdicts[READ], verdicts[LORA]) == (read, lora)
    assert any(remark in ability.why for ability in doctor.judge(report))


def test_an_old_gpu_is_told_to_use_fp16(machine: doctor.Report) -> None:
    report = dataclasses.replace(machine, torch=doctor.Torch("2.13.0", "13.0", (_gpu(16, bf16=False),)))
    assert any("fp16 (no bf16 here)" in ability.why for ability in doctor.judge(report))


def test_a_missing_extra_names_the_line_that_installs_it(machine: doctor.Report) -> None:
    train = dataclasses.replace(machine.extras[0], missing=("torch", "peft"))
    report = dataclasses.replace(machine, torch=doctor.Torch(), extras=(train, *machine.extras[1:]))
    for ability in list(doctor.judge(report))[1:]:
        assert ability.verdict == "no"
        assert ability.why == "missing: torch, peft"
        assert ability.mend == "pip install 'ocrsmith[train]'"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"nano_weights": None}, "the bundled nano weights are not there"),
        ({"ram": 2 * GB}, "2.0 GB of memory, 4 GB needed"),
        ({"disk_free": GB // 2}, "0.5 GB free in /here, 1 GB needed"),
        ({"torch": doctor.Torch("2.13.0", problem="torch does not work: OSError: x")}, "torch does not work"),
    ],
)
def test_what_keeps_nano_from_running_is_said(
    machine: doctor.Report, change: dict[str, object], why: str
) -> None:
    ability = next(item for item in doctor.judge(dataclasses.replace(machine, **change)) if item.name == NANO)  # type: ignore[arg-type]
    assert ability.verdict == "no"
    assert why in ability.why
    assert ability.mend


def test_a_small_disk_cannot_take_the_3b_model(machine: doctor.Report) -> None:
    report = dataclasses.replace(machine, disk_free=5 * GB)
    assert _verdicts(report)["download the 3B model"] == "no"
    assert "download the 3B model" not in _verdicts(dataclasses.replace(report, hub_model_cached=True))


def test_an_old_pillow_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "12.1.1" if name == "pillow" else known(name))
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert "Pillow 12.1.1 expands FITS bombs" in found["warnings"][0]


def test_a_broken_torch_is_a_finding_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:

    def broken() -> int:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(torch.cuda, "device_count", broken)
    report = doctor.examine()
    assert (
        report.torch.problem == "torch does not work: OSError: libcudart.so.13: cannot open shared object file"
    )
    assert report.torch.problem in report.warnings


def test_the_cache_is_where_hugging_face_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert doctor._hub_cache() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert doctor._hub_cache() == tmp_path / "hub"
    assert not doctor._is_cached(doctor.HUB_MODEL)
    snapshot = tmp_path / "hub" / "models--deepseek-ai--DeepSeek-OCR" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model-00001-of-000001.safetensors").touch()
    assert doctor._is_cached(doctor.HUB_MODEL)


def test_the_extras_are_those_of_the_package(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    for name, lines in project["optional-dependencies"].items():
        own = {re.split(r"[\[<>=!~; ]", line)[0] for line in lines} - {"ocrsmith"}
        assert set(doctor.EXTRAS[name][0]) <= own, name
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"])


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    t4 = SimpleNamespace(name="Tesla T4", total_memory=16 * GB, major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: t4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (15 * GB, 16 * GB))
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(doctor, "_runs_grouped_mm", lambda device: device == "cpu")
    report = doctor.examine()
    assert report.torch.gpus == (doctor.Gpu("Tesla T4", 16 * GB, 15 * GB, "7.5", bf16=False, grouped_mm=False),)
    assert main(["doctor"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Tesla T4, 15.0 of 16.0 GB free, compute 7.5, fp16, fp32, experts: plain path" in out
