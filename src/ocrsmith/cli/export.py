"""`ocrsmith export`: parse → export → upload, if to the hub → print."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import Device
from ocrsmith.cli.progress import CountBar
from ocrsmith.errors import DataError, OcrsmithError, OutputError, SettingsError, require

if TYPE_CHECKING:
    from ocrsmith.export.card import CardFacts
    from ocrsmith.export.hub import Target, Uploaded
    from ocrsmith.export.model import Check, Exported
    from ocrsmith.records import SplitName


class Kind(StrEnum):
    """What is exported."""

    merged = "merged"
    adapter = "adapter"
    hub = "hub"


TO_THE_HUB = "With --to hub"


class Dtype(StrEnum):
    """The precision of the merged weights."""

    auto = "auto"
    bfloat16 = "bfloat16"
    float16 = "float16"


def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Run folder, adapter folder, or a model folder as it is; with --to hub an export too.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write; made, or replaced with --overwrite."),
    ] = None,
    to: Annotated[
        Kind, typer.Option(help="Whole weights, the adapter alone, or whole weights and on to the hub.")
    ] = Kind.merged,
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
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what the folder, or the repository, holds.")
    ] = False,
    repo_id: Annotated[
        str | None, typer.Option(metavar="NAME/REPO", help="Repository.", rich_help_panel=TO_THE_HUB)
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody read it.", rich_help_panel=TO_THE_HUB)
    ] = False,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="The adapter alone.", rich_help_panel=TO_THE_HUB)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Merge an adapter into 16-bit weights that vLLM loads, and verify them.

    Merging goes from file to file, one matrix at a time: no GPU is needed.
    Then pages of the validation split are read with the adapter and with the
    merged model; where the two differ by more than rounding, nothing is
    written. The model card has figures, recipe and verification.

    With --to hub the export is uploaded as well, private unless --public is
    given; the token comes from HF_TOKEN or `hf auth login`. Where RUN is an
    export already, that is uploaded, and -o is not needed.
    """
    require("torch", extra="train", why="Exporting a model")
    from ocrsmith.export.contents import is_export
    from ocrsmith.model.adapter_files import CONFIG_FILE

    target = _target(to, repo_id, public, adapter_only, overwrite)
    if target is not None and out is None and is_export(run):
        if adapter_only and not (run / CONFIG_FILE).is_file():
            raise SettingsError(
                f"{run} is an export of whole weights.",
                place="--adapter-only",
                mend="Give the training run as RUN, and -o FOLDER.",
            )
        return _print(None, _upload(run, target), as_json)
    if out is None:
        raise SettingsError("No folder to write is given.", place="-o", mend="Give one: -o FOLDER.")
    _check_out(out, overwrite)
    settings = run_settings(run)
    adapter = _adapter(run)
    base = model or settings.get("model") or (str(run) if adapter is None else None)
    if base is None:
        raise SettingsError(
            f"{run} is an adapter, but the base is not known.", place="--model", mend="Name it: --model BASE."
        )
    facts = _facts(run, base, settings, name or out.resolve().name, licence, before, after)
    if to is Kind.adapter or adapter_only:
        exported = _export_adapter(base, adapter, out, facts, run)
    else:
        check = None
        if adapter is not None and not no_verify:
            check = open_check(data or settings.get("data"), pages, max_new_tokens, device)
        exported = _export_merged(base, adapter, out, facts, check, dtype)
    return _print(exported, _upload(out, target) if target is not None else None, as_json)


def _target(to: Kind, repo_id: str | None, public: bool, adapter_only: bool, overwrite: bool) -> Target | None:
    """Where on the hub the export goes, after asking whether it may; None if it stays here."""
    if to is not Kind.hub:
        given = {"--repo-id": repo_id, "--public": public, "--adapter-only": adapter_only}
        if name := next((name for name, value in given.items() if value), None):
            raise SettingsError(f"{name} belongs to --to hub.", place=name, mend="Add it, or leave this out.")
        return None
    if repo_id is None:
        raise SettingsError("No repository is named.", place="--repo-id", mend="Give --repo-id NAME/REPO.")
    from ocrsmith.export.hub import Target, check_target

    target = Target(repo_id, public=public, overwrite=overwrite)
    check_target(target)
    return target


def _upload(folder: Path, target: Target) -> Uploaded:
    """Says what goes, and lets it go."""
    from huggingface_hub.utils import disable_progress_bars

    from ocrsmith.export.contents import read_contents
    from ocrsmith.export.hub import upload

    contents = read_contents(folder)
    notes = output.notes()
    kind = "public" if target.public else "private"
    notes.print(f"To {target.repo_id} ({kind}) go {len(contents.pieces)} files, {_size(contents.size)}:")
    for piece in contents.pieces:
        notes.print(f"  {piece.name}  {_size(piece.size)}", markup=False)
    if contents.left_out:
        notes.print(f"Not sent: {', '.join(contents.left_out)}.", markup=False)
    if output.verbosity() < 0:
        disable_progress_bars()
    try:
        return upload(contents, target)
    except OcrsmithError as error:
        again = f"The export is whole; with {folder} as RUN it is uploaded without making it anew."
        mend = " ".join(filter(None, (error.mend, again)))
        raise type(error)(error.problem, place=error.place, mend=mend) from error


def _size(size: int) -> str:
    """For people: 509.3 kB, 6.67 GB."""
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.4g} {unit}"
        number /= 1000
    return f"{number:.4g} GB"


def _export_adapter(base: str, adapter: Path | None, out: Path, facts: CardFacts, run: Path) -> Exported:
    from ocrsmith.export.model import export_adapter

    if adapter is None:
        raise SettingsError(f"{run} holds no adapter.", place="RUN", mend="Give a run or an adapter folder.")
    return export_adapter(base, adapter, out, facts=facts)


def _export_merged(
    base: str, adapter: Path | None, out: Path, facts: CardFacts, check: Check | None, dtype: Dtype
) -> Exported:
    from ocrsmith.export.model import export_merged

    bar = CountBar("tensors", "Merging", "merged")
    with bar:
        return export_merged(
            base,
            adapter,
            out,
            facts=facts,
            check=check,
            dtype=dtype.value,
            progress=bar,
            verifying=lambda: output.notes().print("Verifying: merged against adapter."),
        )


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out.name!r} is a file, not a folder.", place=str(out), mend="Give another -o.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(
            "The folder holds something already.", place=str(out), mend="Replace it with --overwrite."
        )


def run_settings(run: Path) -> dict[str, Any]:
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
    run: Path,
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
        trained_on=_trained_on(run),
        data=data,
        before=load_figures(before) if before is not None else None,
        after=load_figures(after) if after is not None else None,
    )


def _trained_on(run: Path) -> str:
    """Content hash of the dataset that the run trained on; empty where none is recorded."""
    from ocrsmith.training.run_folder import ENVIRONMENT_FILE

    try:
        recorded = json.loads((run / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        return str(recorded["dataset"]["content_hash"] or "")
    except (OSError, ValueError, KeyError, TypeError):  # not a run's folder, or a run without the record
        return ""


def open_check(data: Any, pages: int, max_new_tokens: int, device: Device) -> Check:
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


def _print(exported: Exported | None, uploaded: Uploaded | None, as_json: bool) -> None:
    check = exported.verification if exported else None
    if as_json:
        result = {**asdict(exported), "verification": check.to_json() if check else None} if exported else {}
        output.print_json({**result, **({"hub": asdict(uploaded)} if uploaded else {})})
        return
    console = output.console()
    if check is not None:
        console.print(
            f"Verified on {check.pages} pages: same text on {check.same_text}, mean CER "
            f"{check.cer_merged * 100:.2f} % (adapter {check.cer_adapter * 100:.2f} %), logits "
            f"{check.distance * 100:.1f} % of the adapter's effect away."
        )
    if exported is not None:
        console.print(f"Written: {exported.out}", markup=False, soft_wrap=True)
    if uploaded is not None:
        did = "Was there already" if uploaded.unchanged else "Uploaded"
        kind = "private" if uploaded.private else "public"
        console.print(
            f"{did}: {uploaded.url} ({kind}), commit {uploaded.commit[:12]}", markup=False, soft_wrap=True
        )
