"""`ocrsmith stress`: parse → send → print."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.progress import CountBar
from ocrsmith.errors import SettingsError, require
from ocrsmith.settings.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ocrsmith.evaluation.rules import Rule
    from ocrsmith.serving.stress.memory import Memory
    from ocrsmith.serving.stress.report import Report
    from ocrsmith.serving.stress.run import StressRun
    from ocrsmith.serving.stress.settings import StressSettings
    from ocrsmith.serving.stress.statistics import Drift
    from ocrsmith.serving.stress.tally import Tally

_LISTED = 10
_BUSY = 0.8
"""CPU seconds a second of the client from which on its own speed may be what was measured."""


def stress(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server, e.g. http://localhost:8000.")],
    images: Annotated[
        Path, typer.Option("--images", metavar="DIR", help="Page images to send, round after round.")
    ],
    requests: Annotated[
        int | None, typer.Option("-n", "--requests", min=1, help="Pages to send.", show_default="1000")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Send for so long instead of -n pages.")
    ] = None,
    clients: Annotated[int, typer.Option("-c", "--clients", min=1, help="Requests under way at a time.")] = 8,
    warm_up: Annotated[
        int | None,
        typer.Option("--warmup", min=0, help="Pages sent before the count.", show_default="one a client"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Its name on the server.", show_default="the server's first")
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(metavar="P", help="free, markdown, ground, figure, describe, locate:TEXT, or in full."),
    ] = "free",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer in tokens.", show_default="the server's")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Answers in pieces: times the first text too.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for a page, waiting included.")] = 300.0,
    pid: Annotated[
        int | None, typer.Option(help="The server's process, if it runs here: its memory is read from /proc.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Prometheus figures with its memory.", show_default="URL/metrics"),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="RULE",
            help="When the exit code is 1, e.g. 'errors > 0 or p99 > 2'.",
            show_default="errors > 0, or a leak",
        ),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Environment variable that holds the key.", show_default="OPENAI_API_KEY"
        ),
    ] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Plain http to other machines.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the figures as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Send pages to a server, and say how it stands it.

    Works with every OpenAI-compatible endpoint: ours, vLLM, others. Tells latencies, pages a minute, errors by
    kind, pages that are not always answered alike, and whether latency or the server's memory grew from the
    first hundred pages to the last.

    The exit code is 1 if a request failed or memory leaks, or as --fail-if says.
    """
    require("httpx2", extra="serve", why="ocrsmith stress")
    from ocrsmith.reading.prompts import choose_prompt
    from ocrsmith.serving.stress.run import stress as run_stress
    from ocrsmith.serving.stress.settings import DEFAULT_REQUESTS, StressSettings
    from ocrsmith.settings.base import without_none

    rules = _parse_rules(fail_if or ())
    if out is not None and out.is_dir():
        raise SettingsError(
            "This is a folder, not a file.", place=f"-o {out}", mend="Give a file: stress.json."
        )
    values = {
        "url": url,
        "model": model,
        "prompt": choose_prompt(prompt),
        "max_tokens": max_tokens,
        "requests": DEFAULT_REQUESTS if requests is None and duration is None else requests,
        "seconds": duration,
        "clients": clients,
        "warm_up": warm_up,
        "timeout": timeout,
        "stream": stream,
        "pid": pid,
        "metrics_url": metrics,
        "api_key_env": api_key_env,
        "allow_http": allow_http,
    }
    settings = StressSettings.from_values(without_none(values), place="ocrsmith stress")
    with CountBar("pages" if settings.requests else "seconds", "Sending", "sent") as bar:
        run = run_stress(settings, images, progress=_follow(bar, settings))
    figures = run.report.figures()
    failed = [] if run.interrupted else _failed(rules, figures)
    result = _result(settings, run, failed)
    if as_json:
        output.print_json(result)
    else:
        _print(settings, run)
        _print_failed(failed)
    _warn(run)
    if out is not None:
        write_text(out, json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    if run.interrupted:
        raise typer.Exit(output.EXIT_INTERRUPTED)
    _check_measured(rules, figures)
    if failed:
        raise typer.Exit(output.EXIT_CHECK_FAILED)


def _follow(bar: Any, settings: StressSettings) -> Callable[[Tally], None]:
    """Tells the bar how far the run is: in pages, or in seconds."""

    def told(tally: Tally) -> None:
        if settings.requests is not None:
            bar(tally.done, settings.requests)
        elif settings.seconds is not None:
            bar(min(int(tally.elapsed), int(settings.seconds)), int(settings.seconds))

    return told


# --- rules -------------------------------------------------------------------------------------------------


def _parse_rules(texts: Sequence[str]) -> list[Rule]:
    """The rules of --fail-if. Raises SettingsError for one that is none, or that names what is no figure."""
    from ocrsmith.evaluation.rules import parse_rule
    from ocrsmith.serving.stress.report import FIGURES

    rules = [parse_rule(text, place="--fail-if") for text in texts]
    for name in (name for rule in rules for name in rule.names):
        if str(name) not in FIGURES:
            raise SettingsError(
                f"There is no figure {str(name)!r}.", place="--fail-if", mend=f"Known: {', '.join(FIGURES)}."
            )
    return rules


def _failed(rules: Sequence[Rule], figures: Mapping[str, float]) -> list[str]:
    """Why the exit code is to be 1: the rules that came true; without rules, errors and a leak."""
    from ocrsmith.evaluation.gate import check_rules

    if not rules:
        plain = {"errors > 0": figures["errors"] > 0, "leaks > 0": figures["leaks"] > 0}
        return [text for text, holds in plain.items() if holds]
    known = [rule for rule in rules if not _unmeasured(rule, figures)]
    return [outcome.rule for outcome in check_rules(known, figures) if outcome.holds]


def _check_measured(rules: Sequence[Rule], figures: Mapping[str, float]) -> None:
    """Raises SettingsError for a rule about something that was not measured."""
    for rule in rules:
        if names := _unmeasured(rule, figures):
            raise SettingsError(
                f"{rule.text!r} cannot be answered: {', '.join(names)} was not measured.",
                place="--fail-if",
                mend="Memory needs --pid or --metrics, first_text --stream; drift and leaks need a longer run.",
            )


def _unmeasured(rule: Rule, figures: Mapping[str, float]) -> list[str]:
    return [str(name) for name in rule.names if math.isnan(figures[str(name)])]


# --- printing ----------------------------------------------------------------------------------------------


def _result(settings: StressSettings, run: StressRun, failed: list[str]) -> dict[str, Any]:
    left_out = [{"file": name, "reason": reason} for name, reason in run.pages.left_out]
    return {
        "url": settings.api,
        "model": run.model,
        "interrupted": run.interrupted,
        "failed": failed,
        **run.report.to_json(),
        "images": {"sent": len(run.pages.kept), "left_out": left_out, "beyond": run.pages.beyond},
        "settings": settings.to_json() | {"model": run.model},
    }


def _print(settings: StressSettings, run: StressRun) -> None:
    from rich.table import Table

    report, console = run.report, output.console()
    console.print(
        f"{report.answered:,} of {_count(report.requests, 'request')} answered in {report.seconds:,.1f} s by "
        f"{run.model} at {settings.api}: {_count(len(run.pages.kept), 'image')}, {settings.clients} at a time.",
        markup=False,
        soft_wrap=True,
    )
    spreads = {"latency s": report.latency, "first text s": report.first_text}
    names = ("min", "mean", "p50", "p90", "p95", "p99", "max")
    latencies = Table("", *names, box=None, pad_edge=False)
    for column in latencies.columns[1:]:
        column.justify = "right"
    for label, spread in spreads.items():
        if spread is not None:
            latencies.add_row(label, *(f"{getattr(spread, name):.3f}" for name in names))
    if latencies.row_count:
        console.print(latencies)
    for label, value in _facts(report):
        console.print(f"{label:<16} {value}", markup=False, soft_wrap=True)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "pages a minute", f"{report.pages_per_minute:,.1f}"
    if report.tokens_per_second is not None:
        yield "tokens a second", f"{report.tokens_per_second:,.1f}"
    yield "finish reasons", _counts(report.finish_reasons) or "none"
    yield "errors", f"{report.failed:,}: {_counts(report.errors)}" if report.failed else "none"
    if report.rejected:
        yield "no room (429)", f"{report.rejected:,} times; sent again after the pause asked for"
    if report.answered:
        yield "answers", _differing(report.differing)
    if report.drift:
        yield "drift", _drift(report.drift)
    yield "memory", _memory(report.memory)


def _differing(pages: Mapping[str, int]) -> str:
    if not pages:
        return "each page always alike"
    named = ", ".join(f"{name} ({times} answers)" for name, times in list(pages.items())[:_LISTED])
    more = f" and {len(pages) - _LISTED:,} more" if len(pages) > _LISTED else ""
    return f"{_count(len(pages), 'page')} not always alike: {named}{more}"


def _drift(drift: Drift) -> str:
    words = {"steady": "none", "slower": "SLOWER", "faster": "faster", "unknown": "too few requests to tell"}
    noise = drift.noise
    chance = "" if noise is None else f"; chance makes {1 / (1 + noise) - 1:+.1%} to {noise:+.1%}"
    sides = f"first {drift.window} {drift.first:.3f} s, last {drift.last:.3f} s"
    return f"{words[drift.verdict]}: {sides} ({drift.change:+.1%}{chance})"


def _memory(memory: Memory | None) -> str:
    if memory is None:
        return "not known: the server tells none; name its process with --pid"
    words = {
        "steady": "no leak",
        "growing": "GROWING, not yet for sure a leak: send more",
        "leak": "LEAK",
        "unknown": "too few samples to tell",
    }
    sides = f"first {memory.window} {_mib(memory.first)}, last {memory.window} {_mib(memory.last)}"
    slope = memory.slope
    course = ""
    if slope is not None:
        low, high = slope.low / 1024, slope.high / 1024
        course = f"; second half {slope.estimate / 1024:+.2f} KiB a request ({low:+.2f} to {high:+.2f})"
    return f"{words[memory.verdict]}: {sides} ({memory.growth:+.2%}{course})"


def _print_failed(failed: list[str]) -> None:
    for rule in failed:
        output.console().print(f"Fail: {rule}", markup=False, soft_wrap=True)


def _warn(run: StressRun) -> None:
    """What a reader of the figures must know."""
    report, pages = run.report, run.pages
    for kind, message in report.messages.items():
        output.warn(f"The first {kind}: {message}")
    if pages.left_out:
        listed = [f"{name}: {reason}" for name, reason in pages.left_out[:_LISTED]]
        more = [f"… and {len(pages.left_out) - _LISTED:,} more"] if len(pages.left_out) > _LISTED else []
        output.warn(f"{_count(len(pages.left_out), 'file')} not sent:\n  " + "\n  ".join(listed + more))
    if pages.beyond:
        told = (
            f"{_count(pages.beyond, 'file')} not looked at: those before them are enough, or fill the memory."
        )
        output.notes().print(told, markup=False, soft_wrap=True)
    if report.client_load > _BUSY:
        output.warn("This side was busy all the time: perhaps its own speed was measured, not the server's.")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"
