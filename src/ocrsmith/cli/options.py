"""Options that commands which read pages share, and the engine that they open."""

from __future__ import annotations

from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output

if TYPE_CHECKING:
    from ocrsmith.engines.base import Engine

OPENAI = "With --engine openai"
FILE = "With --engine file"
BASELINES = "With --engine tesseract or rapidocr"


class Split(StrEnum):
    """A split of a dataset."""

    train = "train"
    val = "val"
    test = "test"


class Mode(StrEnum):
    """A resolution mode."""

    tiny = "tiny"
    small = "small"
    base = "base"
    large = "large"
    gundam = "gundam"


class Dialect(StrEnum):
    """What a server understands besides OpenAI's fields."""

    openai = "openai"
    vllm = "vllm"


class Device(StrEnum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Dtype(StrEnum):
    """The precision the model runs in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Adapter = Annotated[Path | None, typer.Option(help="Adapter folder, e.g. RUN/adapter.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Pages decoded at a time.", show_default="by device")
]
MaxNewTokens = Annotated[
    int | None, typer.Option(min=1, help="Longest answer in tokens.", show_default="as saved, or 8192")
]
ModeOption = Annotated[Mode | None, typer.Option(help="Resolution mode.", show_default="as saved")]
DeviceOption = Annotated[Device | None, typer.Option(help="Where to run.", show_default="auto")]
DtypeOption = Annotated[Dtype | None, typer.Option(help="Precision.", show_default="auto")]
BaseUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="E.g. http://localhost:8000/v1.", rich_help_panel=OPENAI)
]
DialectOption = Annotated[
    Dialect | None, typer.Option(help="What the server understands.", rich_help_panel=OPENAI)
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Environment variable that holds the key.",
        show_default="OPENAI_API_KEY",
        rich_help_panel=OPENAI,
    ),
]
AllowHttp = Annotated[
    bool, typer.Option("--allow-http", help="Plain http to other machines.", rich_help_panel=OPENAI)
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help="Pages under way at a time.", rich_help_panel=OPENAI)
]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds for a page (tesseract too).", rich_help_panel=OPENAI)
]
Language = Annotated[str | None, typer.Option(help="tesseract's, e.g. chi_sim+eng.", rich_help_panel=BASELINES)]
Psm = Annotated[
    int | None, typer.Option(help="tesseract's page segmentation: 7 for a line.", rich_help_panel=BASELINES)
]
RapidocrModels = Annotated[
    Path | None, typer.Option(metavar="DIR", help="rapidocr's ONNX models.", rich_help_panel=BASELINES)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


RETRYING = ("native", "vllm", "openai")
"""Engines that decode token by token, so that they can loop."""


def open_reader(engine: str, *, loop_retries: bool = True, **options: Any) -> Engine:
    """Opens an engine with the options that were given; those of other engines are refused.

    Args:
        engine: its name.
        loop_retries: read pages again that loop.
        options: by name; None is as good as not given.
    """
    from ocrsmith.engines.registry import open_engine
    from ocrsmith.engines.retries import RetryLoops

    values = {key: value.value if isinstance(value, Enum) else value for key, value in options.items()}
    if engine == "native":
        keep_memory(values["device"])
    with output.notes().status(f"Opening {values['model'] or engine}"):
        reader = open_engine(engine, **values)
    return RetryLoops(reader) if loop_retries and engine in RETRYING else reader


def keep_memory(device: str | None) -> None:
    """Where the model will run on the CPU, keeps freed memory: giving it back and asking anew costs time."""
    from torch import cuda

    from ocrsmith.model.host_memory import keep_freed_memory

    if device == "cpu" or not cuda.is_available():
        keep_freed_memory()
