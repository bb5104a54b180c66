"""`ocrsmith doctor`: what this machine can do, and what to install. Loads torch only when it runs."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Literal

import typer

import ocrsmith
from ocrsmith.cli import output

GB = 1024**3

EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "train": (
        ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "tensorboard"),
        "run and fine-tune models; quickstart",
    ),
    "quant": (("bitsandbytes",), "QLoRA without Triton, AdamW with 8-bit moments"),
    "datasets": (("datasets",), "saved `datasets` folders and hub ids as sources"),
    "pdf": (("pdfplumber", "pypdfium2"), "PDFs as sources"),
    "synth": (("fonttools", "opencv-python-headless", "wordfreq"), "made-up pages: `data synth`"),
    "vllm": (("vllm",), "vLLM as an engine (`eval --engine vllm`)"),
    "serve": (
        ("fastapi", "uvicorn", "httpx2", "prometheus-client", "sqlalchemy"),
        "an OpenAI-compatible server: `serve`, `stress`, `canary`",
    ),
    "postgres": (("pg8000",), "the canary's store in PostgreSQL"),
    "baselines": (("onnxruntime", "rapidocr"), "RapidOCR to compare with"),
    "pretrain": (
        ("brotli", "fonttools", "opencv-python-headless", "wordfreq"),
        "train the nano model from scratch",
    ),
    "dev": (("pytest", "hypothesis", "jiwer", "mypy", "ruff"), "work on ocrsmith itself"),
}
"""Extra → the distributions that it installs, and what it is for. A test holds it against pyproject.toml."""

PILLOW_SAFE = (12, 2)
"""Older versions expand a small FITS file without a limit."""

HUB_MODEL = "deepseek-ai/DeepSeek-OCR"

# GB that the 3B model takes, up to 0.9 for CUDA's context included. Its weights in 16 bits are 6.7. Fine-tuning
# at rank 16 on all linears and experts, two samples at a time, took on an H200 (docs/performance.md): 8.3 for
# lines and 8.7 for A4 pages cut into tiles; with the base in 4 bits 4.5 and 5.0.
GPU_READ_GB = 8.0
GPU_LORA_LINES_GB = 9.5
GPU_LORA_PAGES_GB = 10.0
GPU_QLORA_GB = 6.0
RAM_READ_GB = 16.0
RAM_NANO_GB = 4.0
DISK_NANO_GB = 1.0
DISK_3B_GB = 15.0

Verdict = Literal["yes", "slow", "no"]


@dataclass(frozen=True)
class Gpu:
    """A CUDA device. Memory in bytes."""

    name: str
    memory: int
    free: int
    capability: str
    """Compute capability, e.g. "8.0"."""
    bf16: bool
    grouped_mm: bool
    """Whether torch's grouped matrix product runs here; else experts take the plain path."""


@dataclass(frozen=True)
class Torch:
    """What torch says of itself, or why it cannot be used."""

    version: str | None = None
    cuda: str | None = None
    """The CUDA version it was built for; None for a CPU build."""
    gpus: tuple[Gpu, ...] = ()
    grouped_mm_cpu: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class Extra:
    """An extra of ocrsmith: what it is for, and what of it is missing."""

    name: str
    purpose: str
    missing: tuple[str, ...]
    install: str
    """The line that installs it."""


@dataclass(frozen=True)
class Ability:
    """Something one may want to do here."""

    name: str
    verdict: Verdict
    why: str
    mend: str | None = None


@dataclass(frozen=True)
class Report:
    """What was found. Memory and disk in bytes; None where the system does not tell."""

    ocrsmith: str
    python: str
    platform: str
    cores: int
    ram: int | None
    disk_free: int
    disk_place: str
    torch: Torch
    pillow: str | None
    hub_cache: str
    hub_model_cached: bool
    nano_weights: str | None
    extras: tuple[Extra, ...]
    abilities: tuple[Ability, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    ok: bool = True
    """False if something that the core needs is wrong: then the exit code is 1."""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Say what this machine can do, and what to install."""
    report = examine()
    if as_json:
        output.print_json({**vars(report)})
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(output.EXIT_CHECK_FAILED)


def examine() -> Report:
    """Looks at the machine and the installation. Imports torch if it is there."""
    place = Path.cwd()
    found = _torch()
    extras = tuple(_extras())
    pillow = _version("pillow")
    warnings, ok = _warnings(found, pillow)
    report = Report(
        ocrsmith=ocrsmith.__version__,
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        cores=_cores(),
        ram=_ram(),
        disk_free=shutil.disk_usage(place).free,
        disk_place=str(place),
        torch=found,
        pillow=pillow,
        hub_cache=str(_hub_cache()),
        hub_model_cached=_is_cached(HUB_MODEL),
        nano_weights=_nano_weights(),
        extras=extras,
        warnings=warnings,
        ok=ok,
    )
    return Report(**{**vars(report), "abilities": tuple(judge(report))})


def judge(report: Report) -> Iterable[Ability]:
    """What can be done with what was found. Pure."""
    train = next(extra for extra in report.extras if extra.name == "train")
    yield Ability("build datasets, score, compare", "yes", "needs no torch")
    yield _judge_nano(report, train)
    gpu = max(report.torch.gpus, key=lambda device: device.memory, default=None)
    if train.missing:
        for name in ("read with the 3B model", "fine-tune the 3B model (LoRA)"):
            yield Ability(name, "no", f"missing: {', '.join(train.missing)}", train.install)
    elif gpu is None:
        yield _judge_reading_on_cpu(report)
        yield Ability(
            "fine-tune the 3B model (LoRA)",
            "no",
            "no GPU that torch can use; the nano model can be fine-tuned on the CPU",
            f"Use an NVIDIA GPU of {GPU_LORA_LINES_GB:.0f} GB or more, {GPU_QLORA_GB:.0f} with QLoRA.",
        )
    else:
        yield from _judge_gpu(gpu)
    room = report.disk_free / GB
    if not report.hub_model_cached and room < DISK_3B_GB:
        yield Ability(
            "download the 3B model",
            "no",
            f"{room:.1f} GB free, about {DISK_3B_GB:.0f} GB needed with run folders",
            "Free some space, or set HF_HOME to a folder on another disk.",
        )


def _judge_nano(report: Report, train: Extra) -> Ability:
    name = "quickstart; read and fine-tune nano"
    if train.missing:
        return Ability(name, "no", f"missing: {', '.join(train.missing)}", train.install)
    if report.torch.problem:
        return Ability(name, "no", report.torch.problem, "Reinstall torch.")
    if report.nano_weights is None:
        return Ability(name, "no", "the bundled nano weights are not there", "Reinstall ocrsmith.")
    if report.ram is not None and report.ram < RAM_NANO_GB * GB:
        why = f"{report.ram / GB:.1f} GB of memory, {RAM_NANO_GB:.0f} GB needed"
        return Ability(name, "no", why, "Use a machine with more memory.")
    if report.disk_free < DISK_NANO_GB * GB:
        why = f"{report.disk_free / GB:.1f} GB free in {report.disk_place}, {DISK_NANO_GB:.0f} GB needed"
        return Ability(name, "no", why, "Free some space, or run in a folder on another disk.")
    return Ability(name, "yes", "minutes on this CPU" if not report.torch.gpus else "minutes")


def _judge_reading_on_cpu(report: Report) -> Ability:
    name = "read with the 3B model"
    if report.ram is not None and report.ram < RAM_READ_GB * GB:
        why = (
            f"no GPU, and {report.ram / GB:.0f} GB of memory where the CPU needs {RAM_READ_GB:.0f} GB (float32)"
        )
        return Ability(name, "no", why, f"Use a GPU of {GPU_READ_GB:.0f} GB or more.")
    return Ability(name, "slow", "no GPU: possible on the CPU, but slow")


def _judge_gpu(gpu: Gpu) -> Iterable[Ability]:
    size = gpu.memory / GB
    dtype = "bf16" if gpu.bf16 else "fp16 (no bf16 here)"
    has = f"{gpu.name}, {size:.0f} GB, {dtype}"
    if size < GPU_READ_GB:
        why = f"{has}; {GPU_READ_GB:.0f} GB needed"
        yield Ability("read with the 3B model", "no", why, "Use a larger GPU.")
    else:
        yield Ability("read with the 3B model", "yes", has)
    name = "fine-tune the 3B model (LoRA)"
    if size < GPU_QLORA_GB:
        yield Ability(name, "no", f"{has}; {GPU_QLORA_GB:.0f} GB needed, in 4 bits", "Use a larger GPU.")
    elif size < GPU_LORA_LINES_GB:
        yield Ability(name, "yes", f"{has}: with --quantization nf4")
    elif size < GPU_LORA_PAGES_GB:
        why = f"{has}: lines and small images; pages want {GPU_LORA_PAGES_GB:.0f} GB or --quantization nf4"
        yield Ability(name, "yes", why)
    else:
        yield Ability(name, "yes", f"{has}: lines and pages")


def _extras() -> Iterable[Extra]:
    for name, (distributions, purpose) in EXTRAS.items():
        missing = tuple(item for item in distributions if _version(item) is None)
        yield Extra(name, purpose, missing, f"pip install 'ocrsmith[{name}]'")


def _warnings(found: Torch, pillow: str | None) -> tuple[tuple[str, ...], bool]:
    """Warnings, and whether the core is in order."""
    warnings: list[str] = []
    ok = True
    if pillow is None:
        warnings.append("Pillow is missing: pip install 'pillow>=12.2'")
        ok = False
    elif tuple(int(part) for part in pillow.split(".")[:2] if part.isdigit()) < PILLOW_SAFE:
        warnings.append(
            f"Pillow {pillow} expands FITS bombs without a limit: pip install 'pillow>=12.2' before opening "
            "images from strangers."
        )
        ok = False
    if found.problem:
        warnings.append(found.problem)
    if found.version and found.cuda is None and shutil.which("nvidia-smi"):
        warnings.append(
            "There is an NVIDIA driver, but torch is a CPU build: reinstall torch with CUDA to use the GPU."
        )
    if found.cuda and not found.gpus and not found.problem and shutil.which("nvidia-smi"):
        warnings.append(f"torch is built for CUDA {found.cuda}, but sees no GPU: is the driver recent enough?")
    return tuple(warnings), ok


def _torch() -> Torch:
    """Imports torch and asks it about devices; a broken installation is a finding, not an error."""
    if util.find_spec("torch") is None:
        return Torch()
    try:
        import torch

        gpus = tuple(_gpu(index) for index in range(torch.cuda.device_count()))
        return Torch(torch.__version__, torch.version.cuda, gpus, _runs_grouped_mm("cpu"))
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        return Torch(_version("torch"), problem=f"torch does not work: {type(error).__name__}: {first}")


def _gpu(index: int) -> Gpu:
    import torch

    properties = torch.cuda.get_device_properties(index)
    free, _ = torch.cuda.mem_get_info(index)
    with torch.cuda.device(index):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Gpu(
        name=properties.name,
        memory=properties.total_memory,
        free=free,
        capability=f"{properties.major}.{properties.minor}",
        bf16=bf16,
        grouped_mm=_runs_grouped_mm(f"cuda:{index}"),
    )


def _runs_grouped_mm(device: str) -> bool:
    """Tries a small grouped product in bf16: the only sure answer, since support varies by version and chip."""
    import torch

    grouped_mm = getattr(torch.nn.functional, "grouped_mm", None)
    if grouped_mm is None:
        return False
    try:
        rows = torch.ones(16, 16, device=device, dtype=torch.bfloat16)
        weights = torch.ones(2, 16, 16, device=device, dtype=torch.bfloat16)
        ends = torch.tensor([8, 16], device=device, dtype=torch.int32)
        return bool((grouped_mm(rows, weights, offs=ends) == 16).all())
    except (RuntimeError, TypeError):  # NotImplementedError is a RuntimeError
        return False


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    """Cores that this process may use: affinity and the container's quota count, not only the hardware."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = _read_words(Path("/sys/fs/cgroup/cpu.max"))
    if len(words) == 2 and words[0].isdigit():
        cores = min(cores, max(1, round(int(words[0]) / int(words[1]))))
    return cores


def _ram() -> int | None:
    """Bytes of memory that this process may use, the container's limit included."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    words = _read_words(Path("/sys/fs/cgroup/memory.max"))
    return min(total, int(words[0])) if words and words[0].isdigit() else total


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _hub_cache() -> Path:
    """Where Hugging Face keeps models: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{base}/huggingface")).expanduser() / "hub"


def _is_cached(model: str) -> bool:
    folder = _hub_cache() / f"models--{model.replace('/', '--')}"
    return any(folder.glob("snapshots/*/*.safetensors"))


def _nano_weights() -> str | None:
    """The file with the bundled weights, if it is there."""
    folder = Path(ocrsmith.__file__).parent / "nano"
    files = sorted(folder.rglob("*.safetensors"))
    return str(files[0]) if files else None


_MARKS: dict[Verdict, str] = {"yes": "[green]✓ yes[/]", "slow": "[yellow]~ slow[/]", "no": "[red]✗ no[/]"}


def _print(report: Report) -> None:
    """Two tables for people, then what to do."""
    from rich.markup import escape
    from rich.table import Table

    console = output.console()
    facts = Table(title="This machine", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _facts(report):
        facts.add_row(f"[bold]{name}[/]", escape(value))
    console.print(facts)

    extras = Table(title="Extras", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for extra in report.extras:
        state = "[green]✓ installed[/]" if not extra.missing else "[yellow]✗ missing[/]"
        line = extra.purpose if not extra.missing else f"{extra.purpose} → {extra.install}"
        extras.add_row(f"[bold]{extra.name}[/]", state, escape(line))
    console.print()
    console.print(extras)

    able = Table(
        title="What it can do", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    for ability in report.abilities:
        why = ability.why + (f" → {ability.mend}" if ability.mend else "")
        able.add_row(_MARKS[ability.verdict], f"[bold]{escape(ability.name)}[/]", escape(why))
    console.print()
    console.print(able)
    for warning in report.warnings:
        output.warn(warning)


def _facts(report: Report) -> Iterable[tuple[str, str]]:
    yield "ocrsmith", f"{report.ocrsmith} on Python {report.python}, {report.platform}"
    found = report.torch
    if found.version is None:
        yield "torch", "not installed"
    else:
        yield "torch", f"{found.version} ({'CUDA ' + found.cuda if found.cuda else 'CPU build'})"
    for gpu in found.gpus:
        dtypes = "bf16, fp16, fp32" if gpu.bf16 else "fp16, fp32"
        experts = "grouped" if gpu.grouped_mm else "plain"
        size = f"{gpu.free / GB:.1f} of {gpu.memory / GB:.1f} GB free"
        yield "GPU", f"{gpu.name}, {size}, compute {gpu.capability}, {dtypes}, experts: {experts} path"
    if found.version and not found.gpus:
        yield "GPU", "none that torch can use"
    memory = f"{report.ram / GB:.1f} GB of memory" if report.ram is not None else "memory unknown"
    yield "CPU", f"{report.cores} core{'s' if report.cores != 1 else ''}, {memory}"
    yield "disk", f"{report.disk_free / GB:.1f} GB free in {report.disk_place}"
    yield "Pillow", report.pillow or "not installed"
    yield "nano", report.nano_weights or "bundled weights not found"
    cached = f"{HUB_MODEL} is there" if report.hub_model_cached else f"{HUB_MODEL} is not there yet"
    yield "model cache", f"{report.hub_cache}: {cached}"
