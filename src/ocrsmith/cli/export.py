"""`ocrsmith export`: parse → export → print."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import Device
from ocrsmith.cli.progress import CountBar
from ocrsmith.errors import DataError, OutputError, SettingsError, require

if TYPE_CHECKING:
    from ocrsmith.export.card import CardFacts
    from ocrsmith.export.model import Check, Exported
    from ocrsmith.records import SplitName


class Kind(StrEnum):
    """What is exported."""

    merged = "merged"
    adapter = "adapter"


class Dtype(StrEnum):
    """The precision of the merged weights."""

    auto = "auto"
    bfloat16 = "bfloat16"
    float16 = "float16"


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, adapter folder, or a model folder as it is.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder to write; made, or replaced with --overwrite.")
    ],
    to: Annotated[Kind, typer.Option(help="Whole weights, or the adapter alone.")] = Kind.merged,
    model: Annotated[
        str | None, typer.Option(help="The base: nano, a folder, a hub id.", show_default="the run's")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Dataset to verify on.", show_default="the run's")] = None,
    pages: Annotated[int, typer.Option(min=1, help="Validation pages to verify on.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer while verifying.")] = 256,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare merged with adapter; the card says so.")
    ] = False,
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights.")] = Dtype.auto,
    device: Annotated[Device, typer.Option(help="Where to verify.")] = Device.auto,
    before: Annotated[
        Path | None, typer.Option(metavar="EVAL", help="Evaluation of the base, for the card.")
    ] = None,
    after: Annotated[
        Path | None, typer.Option(metavar="EVAL", help="Evaluation of the tuned model, for the card.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in the card.", show_default="the folder's")] = None,
    licence: Annotated[
        str, typer.Option("--license", help="Licence in the card, e.g. mit.", show_default="unknown")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the folder holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Merge an adapter into 16-bit weights that vLLM loads, and verify them.

    Merging goes from file to file, one matrix at a time: no GPU is needed.
    Then pages of the validation split are read with the adapter and with the
    merged model; where the two differ by more than rounding, nothing is
    written. The model card has figures, recipe and verification.
    """
    require("torch", extra="train", why="Exporting a model")
    from ocrsmith.export.model import export_adapter, export_merged

    _check_out(out, overwrite)
    settings = _run_settings(run)
    adapter = _adapter(run)
    base = model or settings.get("model") or (str(run) if adapter is None else None)
    if base is None:
        raise SettingsError(
            f"{run} is an adapter, but the base is not known.", place="--model", mend="Name it: --model BASE."
        )
    facts = _facts(base, settings, name or out.resolve().name, licence, before, after)
    if to is Kind.adapter:
        if adapter is None:
            raise SettingsError(
                f"{run} holds no adapter.", place="RUN", mend="Give a run or an adapter folder."
            )
        return _print(export_adapter(base, adapter, out, facts=facts), as_json)
    check = None
    if adapter is not None and not no_verify:
        check = _check(data or settings.get("data"), pages, max_new_tokens, device)
    bar = CountBar("tensors", "Merging", "merged")
    with bar:
        exported = export_merged(
            base,
            adapter,
            out,
            facts=facts,
            check=check,
            dtype=dtype.value,
            progress=bar,
            verifying=lambda: output.notes().print("Verifying: merged against adapter."),
        )
    return _print(exported, as_json)


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out.name!r} is a file, not a folder.", place=str(out), mend="Give another -o.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(
            "The folder holds something already.", place=str(out), mend="Replace it with --overwrite."
        )


def _run_settings(run: Path) -> dict[str, Any]:
    """The settings of a run folder, flat; empty for other folders."""
    from ocrsmith.training.run_folder import SETTINGS_FILE
    from ocrsmith.training.settings import TrainSettings, flat_options

    if not (run / SETTINGS_FILE).is_file():
        return {}
    return flat_options(TrainSettings.from_yaml(run / SETTINGS_FILE).model_dump(mode="json"))


def _adapter(run: Path) -> Path | None:
    """The adapter in a run, or the folder itself; None for a model folder. Raises SettingsError."""
    from ocrsmith.model.adapter_files import CONFIG_FILE

    for folder in (run / "adapter", run):
        if (folder / CONFIG_FILE).is_file():
            return folder
    if (run / "config.json").is_file():
        return None
    what = "There is no such folder" if not run.exists() else "It holds neither an adapter nor a model"
    raise SettingsError(
        f"{what}: {run}.", place="RUN", mend="Give the folder that `ocrsmith train -o RUN` wrote."
    )


def _facts(
    base: str,
    settings: dict[str, Any],
    name: str,
    licence: str,
    before: Path | None,
    after: Path | None,
) -> CardFacts:
    from ocrsmith.evaluation.store import load_figures, load_metrics
    from ocrsmith.export.card import CardFacts

    data = dict(load_metrics(after)[1].get("dataset") or {}) if after is not None else {}
    shown = {key: value for key, value in settings.items() if key not in ("model", "data")}
    return CardFacts(
        name,
        Path(base).name if Path(base).is_dir() else base,
        licence=licence,
        settings=shown,
        data=data,
        before=load_figures(before) if before is not None else None,
        after=load_figures(after) if after is not None else None,
    )


def _check(data: Any, pages: int, max_new_tokens: int, device: Device) -> Check:
    """The pages to verify on: the first of the validation split, or of the test split where there is none."""
    from ocrsmith.datasets import open_dataset
    from ocrsmith.engines.native.engine import choose_device
    from ocrsmith.evaluation.metrics import cer
    from ocrsmith.export.model import Check
    from ocrsmith.export.verify import VerifiedPage

    if data is None:
        raise SettingsError(
            "No dataset to verify on is known.", place="--data", mend="Name one, or give --no-verify."
        )
    dataset = open_dataset(data)
    order: tuple[SplitName, ...] = ("val", "test", "train")
    split = next((name for name in order if dataset.count(name)), None)
    if split is None:
        raise DataError("The dataset has no pages.", place=str(data), mend="Name another with --data.")
    found = [
        VerifiedPage(sample.id, sample.image, sample.text, sample.prompt or dataset.prompt)
        for sample in islice(dataset.iter_samples(split), pages)
    ]
    place, number = choose_device(device.value, "auto")
    return Check(found, cer, place, number, max_new_tokens)


def _print(exported: Exported, as_json: bool) -> None:
    check = exported.verification
    if as_json:
        output.print_json({**asdict(exported), "verification": check.to_json() if check else None})
        return
    console = output.console()
    if check is not None:
        console.print(
            f"Verified on {check.pages} pages: same text on {check.same_text}, mean CER "
            f"{check.cer_merged * 100:.2f} % (adapter {check.cer_adapter * 100:.2f} %), logits "
            f"{check.distance * 100:.1f} % of the adapter's effect away."
        )
    console.print(f"Written: {exported.out}", markup=False, soft_wrap=True)
