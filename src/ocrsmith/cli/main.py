"""The `ocrsmith` command: knows the commands' names and help lines, and loads a command when it is chosen.

So `ocrsmith --help` imports no command, and with it no torch, transformers or pyarrow.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import ocrsmith
from ocrsmith.cli import output
from ocrsmith.errors import OcrsmithError, SettingsError

HELP_LINES: dict[str, str] = {
    "quickstart": "Run the whole story on bundled pages: dataset, baseline, fine-tuning, comparison.",
    "data": "Make datasets from sources, PDFs or fonts; check, show, compare and export them.",
    "estimate": "Say how long a training run would take, and how much memory, before it starts.",
    "train": "Fine-tune a model on a dataset with LoRA.",
    "eval": "Let a model read a dataset, and score what it read.",
    "compare": "Put evaluations side by side: what changed, how sure that is, and the samples that flipped.",
    "gate": "Say yes or no: hold the figures of an evaluation against rules.",
    "report": "Write a finished evaluation as HTML, Markdown, JSON, CSV or JUnit XML.",
    "calibrate": "Make confidences come true: fit a calibration on a validation evaluation.",
    "mine": "Find what to label or draw next: hard pages, doubtful labels, confusions.",
    "sweep": "Say which resolution mode to take: read pages in each, and weigh accuracy against cost.",
    "ocr": "Read images and PDFs to Markdown, text, JSON or searchable PDFs.",
    "export": "Merge an adapter into 16-bit weights that vLLM loads, and verify them.",
    "serve": "Serve a model over HTTP, as OpenAI's API, with vLLM or our own engine.",
    "canary": "Watch a candidate model beside the one that serves: report, review, correct, resume.",
    "stress": "Send pages to a server, and say how it stands it.",
    "doctor": "Say what this machine can do, and what to install.",
}
"""Every command with its line in `ocrsmith --help`: the first paragraph of its docstring. The command NAME is
in `ocrsmith.cli.NAME`: a Typer `app` (several commands), or the function NAME (`eval_` for `eval`)."""

# typer keeps the click inside it private; this public class leads to the base of all its usage errors.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class _Stub(TyperCommand):
    """Stands for a command that is not loaded: a name and a help line."""


class LazyGroup(TyperGroup):
    """Holds a stub for each command, and imports the command only when it is chosen."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _finish(self, ctx)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, stub, rest = super().resolve_command(ctx, args)
        if name is None:  # while a shell completes
            return name, stub, rest
        command = load_command(name)
        _finish(command, ctx)
        return name, command, rest


def load_command(name: str) -> Any:
    """Imports the command `name` and makes it a typer command."""
    module = importlib.import_module(f"ocrsmith.cli.{name}")
    if hasattr(module, "app"):
        command: Any = typer.main.get_group(module.app)
        command.name = name
    else:
        function = getattr(module, name, None) or getattr(module, f"{name}_")
        app = typer.Typer(add_completion=False)
        app.command(name)(function)
        command = typer.main.get_command(app)
    return command


def _finish(command: Any, context: Any) -> None:
    """Gives a command -v and -q, and makes its help plain.

    `ocrsmith[train]` in a docstring is no markup, and a flag takes no value of type bool.
    """
    if command.help:
        command.help = _flow(command.help).replace("[", r"\[")
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = parameter.help.replace("[", r"\[")
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params += [option for option in _common_options() if not taken & set(option.opts)]
    for parameter in (*command.params, command.get_help_option(context)):
        if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
            parameter.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        if not isinstance(inner, _Stub):
            _finish(inner, context)


def _flow(text: str) -> str:
    """Joins the lines of each paragraph, so that it fills the terminal's width; lists stay as they are."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        item if re.search(r"^\s*[-*] |^ ", item, re.MULTILINE) else " ".join(item.split())
        for item in paragraphs
    )


def _common_options() -> list[Any]:
    """-v and -q, as typer makes them from the signature of a function."""

    def common(
        verbose: Annotated[
            int,
            typer.Option(
                "-v",
                "--verbose",
                count=True,
                show_default=False,
                expose_value=False,
                callback=lambda value: output.set_verbosity(value) if value else None,
                help="Say more; twice: everything.",
            ),
        ] = 0,
        quiet: Annotated[
            bool,
            typer.Option(
                "-q",
                "--quiet",
                expose_value=False,
                callback=lambda value: output.set_verbosity(-1) if value else None,
                help="No progress and remarks, only results, warnings and errors.",
            ),
        ] = False,
    ) -> None:
        """Holds the options; never called."""

    app = typer.Typer(add_completion=False)
    app.command()(common)
    return [parameter for parameter in typer.main.get_command(app).params if parameter.name != "help"]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ocrsmith {ocrsmith.__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """Turn DeepSeek-OCR into the expert of your documents.

    Start with `ocrsmith quickstart`. With --json a command prints one JSON object on stdout.
    """


def build() -> Any:
    """The root command, with a stub for every command in `HELP_LINES`."""
    app = typer.Typer(cls=LazyGroup, add_completion=False)
    app.callback()(_root)
    group = typer.main.get_group(app)
    for name, line in HELP_LINES.items():
        group.add_command(_Stub(name=name, help=line))
    return group


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: without the program's name; None takes `sys.argv`.
    Returns:
        The exit code: 0 ok, 1 a gate or check failed, 2 bad usage or input, 70 a bug, 130 interrupted.
    """
    # OpenMP's threads spin while they wait; where other programs want the cores too, torch then crawls. Read
    # when torch is loaded, hence here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    output.configure(as_json="--json" in words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character must not end a run
            stream.reconfigure(errors="backslashreplace")
    try:
        result = build().main(args=words or ["--help"], prog_name="ocrsmith", standalone_mode=False)
    except UsageError as error:
        return output.report_error(_usage_error(error))
    except (KeyboardInterrupt, typer.Abort):
        return output.report_interrupt()
    except Exception as error:
        user_error = output.as_user_error(error)
        return output.report_error(user_error) if user_error else output.report_bug(error, words)
    code = result if isinstance(result, int) else output.EXIT_OK
    return output.report_interrupt() if code == output.EXIT_INTERRUPTED else code


def _usage_error(error: Any) -> OcrsmithError:
    """typer's words for a wrong option or command, in our form."""
    problem = error.format_message().replace("\n\t", " ").strip()
    if possibilities := getattr(error, "possibilities", None):
        problem = f"{error.message}. Did you mean {' or '.join(sorted(possibilities))}?"
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "ocrsmith"
    return SettingsError(problem, place=path, mend=f"See `{path} --help`.")


if __name__ == "__main__":
    sys.exit(main())
