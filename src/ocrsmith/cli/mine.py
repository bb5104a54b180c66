"""`ocrsmith mine`: parse → mine → print."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.progress import CountBar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocrsmith.evaluation.mine import Mined

SHOWN = 10
_MOST_FILES = 3


def mine(
    evaluation: Annotated[Path, typer.Argument(metavar="EVAL", help="Evaluation folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    data: Annotated[
        Path | None,
        typer.Option(help="The dataset that was evaluated.", show_default="where it was then"),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="Pages of each queue, at most.")] = 200,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away an earlier mining in the folder, corrections too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Find what to label or draw next: hard pages, doubtful labels, confusions.

    Writes OUT/review (hard pages of many kinds, most telling first),
    OUT/suspects (pages whose reference is likely wrong), both to be corrected
    in labels.csv and read by `ocrsmith data build`; OUT/confusions.tsv and
    OUT/characters.tsv for `ocrsmith data synth`; and OUT/mine.json.
    """
    from ocrsmith.evaluation.mine import mine as mine_folder
    from ocrsmith.evaluation.store import load_metrics

    with CountBar("pages", "Sorting errors", "sorted the errors of") as bar:
        mined = mine_folder(evaluation, out, data=data, count=count, overwrite=overwrite, progress=bar)
    _, provenance = load_metrics(evaluation)
    commands = [] if mined.empty else list(_next_commands(mined, provenance))
    for warning in () if mined.empty else mined.warnings:
        output.warn(warning)
    if as_json:
        told = {**mined.to_json(), "out": None if mined.empty else out, "next": commands}
        queues = {"review": mined.review, "suspects": [suspect.case for suspect in mined.suspects]}
        output.print_json(
            {**told, **{name: [one.result.id for one in queue] for name, queue in queues.items()}}
        )
    else:
        _print(mined, commands)


def _print(mined: Mined, commands: list[str]) -> None:
    from ocrsmith.evaluation.mine.mining import ACCOUNT, REVIEW, SUSPECTS
    from ocrsmith.evaluation.mine.pages import reason_of

    console = output.console()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    if mined.empty:
        say(f"There is nothing to mine: {_pages(mined.pages)}, none with an error that can be learnt from.")
        say("Nothing was written.")
        for why, pages in mined.left_out.items():
            say(f"  left out  {why}: {pages:,}")
        return
    say(f"{_pages(mined.pages)} of the split {mined.split}")
    if not mined.with_confidence:
        say("The engine gave no confidences: ranked by errors alone, label errors found without them.")
    say(f"review    {len(mined.review):,} hard pages; they stand for {mined.covered:.0%} of what is wrong")
    for rank, case in enumerate(mined.review[:SHOWN], start=1):
        say(f"  {rank:>3}. {case.result.id}: {reason_of(case)}")
    rules = ", ".join(f"{rule} {pages:,}" for rule, pages in mined.suspects_by_rule.items())
    say(f"suspects  {len(mined.suspects):,} pages whose reference may be wrong" + (f" ({rules})" * bool(rules)))
    say(f"synthesis {mined.confusions:,} confusions, {mined.characters:,} characters")
    for why, pages in mined.left_out.items():
        say(f"left out  {why}: {pages:,}")
    say("")
    say(f"Look at {mined.out / (REVIEW if mined.review else SUSPECTS) / 'review.html'}; all in {ACCOUNT}.")
    say("Next:")
    for command in commands:
        say(f"  {command}")


def _next_commands(mined: Mined, provenance: dict[str, Any]) -> Iterator[str]:
    """What to type next, with the paths at hand."""
    from ocrsmith.evaluation.mine.mining import CHARACTERS, CONFUSIONS, REVIEW, SUSPECTS

    out = mined.out
    queues = [str(out / name) for name, pages in ((REVIEW, mined.review), (SUSPECTS, mined.suspects)) if pages]
    data = str(mined.dataset.path)
    corrected = f"{out}-corrected"
    yield shlex.join(["ocrsmith", "data", "build", *queues, "-o", corrected, "--keep-splits", data])
    if not (mined.confusions or mined.characters):
        return
    drawn, training = f"{out}-drawn", f"{out}-training"
    words = ["ocrsmith", "data", "synth"]
    if mined.confusions:
        words += ["--confusions", str(out / CONFUSIONS)]
    if mined.characters:
        words += ["--chars", str(out / CHARACTERS)]
    files = mined.dataset.files.get("train", ())[:_MOST_FILES]
    for texts in [str(file) for file in files] or ["TEXTS.txt"]:  # never the texts that are measured on
        words += ["--texts", texts]
    yield shlex.join([*words, "--splits", "100/0/0", "-o", drawn])
    kept = ["--keep-splits", data, "--splits", "100/0/0"]
    yield shlex.join(["ocrsmith", "data", "build", data, drawn, "-o", training, *kept])
    model = (provenance.get("engine") or {}).get("model") or {}
    name = model.get("name") if isinstance(model, dict) else None
    yield shlex.join(
        ["ocrsmith", "train", "--model", str(name or "MODEL"), "--data", training, "-o", "runs/mined"]
    )


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count:,} pages"
