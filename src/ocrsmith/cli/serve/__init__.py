"""`ocrsmith serve`: parse → check → serve. Loads torch only when it runs."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import AsJson, BatchSize, Device, DtypeOption, MaxNewTokens, Mode
from ocrsmith.cli.serve.backend import Wanted, open_backends, plan, read_wanted, tell
from ocrsmith.errors import SettingsError, require

if TYPE_CHECKING:
    from ocrsmith.serving.backends import Backend
    from ocrsmith.serving.settings import ServerSettings

NETWORK = "Network and keys"
LIMITS = "Limits"
CANARY = "Canary: a candidate beside the model"
VLLM = "With --engine vllm"
NATIVE = "With --engine native"
MIB = 2**20
_STORE = "canary.sqlite"


class EngineName(StrEnum):
    """Who answers."""

    vllm = "vllm"
    native = "native"


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="nano, a model folder, or a hub id.")],
    engine: Annotated[
        EngineName, typer.Option(help="vLLM on a GPU, or this process: for nano, CPUs and small GPUs.")
    ] = EngineName.vllm,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Run or adapter folder, by what clients ask for. Repeatable."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What clients ask MODEL for.", show_default="the folder's, or the id")
    ] = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = None,
    dtype: DtypeOption = None,
    print_: Annotated[
        bool, typer.Option("--print", help="Print vLLM's own command, and serve nothing.", rich_help_panel=VLLM)
    ] = False,
    gpu_memory_utilization: Annotated[
        float | None,
        typer.Option(help="Share of the GPU's memory.", show_default="vLLM's", rich_help_panel=VLLM),
    ] = None,
    eager: Annotated[
        bool, typer.Option("--eager", help="Do not compile: starts sooner, runs slower.", rich_help_panel=VLLM)
    ] = False,
    mode: Annotated[
        Mode | None, typer.Option(help="Resolution mode.", show_default="as saved", rich_help_panel=NATIVE)
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="Where to run.", show_default="auto", rich_help_panel=NATIVE)
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; by default others cannot reach it.", rich_help_panel=NETWORK),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", rich_help_panel=NETWORK)
    ] = 8000,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Environment variable that holds the keys to ask for, comma separated.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    allow_no_keys: Annotated[
        bool,
        typer.Option(
            "--allow-no-keys", help="Listen beyond this machine without keys.", rich_help_panel=NETWORK
        ),
    ] = False,
    allow_image_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Fetch images from there. Repeatable.", rich_help_panel=NETWORK),
    ] = None,
    max_image_mb: Annotated[
        float, typer.Option(min=0.01, help="Longest image file, MiB.", rich_help_panel=LIMITS)
    ] = 20,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1, help="Largest image, width x height.", show_default="as `ocr`", rich_help_panel=LIMITS
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Longest answer.", show_default="the model's", rich_help_panel=LIMITS),
    ] = None,
    slots: Annotated[
        int, typer.Option(min=1, help="Requests answered at a time.", rich_help_panel=LIMITS)
    ] = 32,
    queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; others get a 429.", rich_help_panel=LIMITS)
    ] = 64,
    request_seconds: Annotated[
        float, typer.Option(help="For an answer, waiting included.", rich_help_panel=LIMITS)
    ] = 300,
    drain_seconds: Annotated[
        float, typer.Option(help="For requests under way when the server ends.", rich_help_panel=LIMITS)
    ] = 30,
    log_texts: Annotated[
        bool,
        typer.Option("--log-texts", help="Write prompts and answers into the log.", rich_help_panel=LIMITS),
    ] = False,
    candidate: Annotated[
        str | None,
        typer.Option(metavar="B", help="An --adapter's name, an adapter, or a model.", rich_help_panel=CANARY),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(help="Of the pages, that it answers: 5% or 0.05.", rich_help_panel=CANARY),
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="The other model reads each page too, unseen.", rich_help_panel=CANARY),
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DB", help="SQLite file, or postgresql://…", show_default=_STORE, rich_help_panel=CANARY
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="Of the pages, kept for review.", show_default="1%", rich_help_panel=CANARY),
    ] = None,
    rollback_if: Annotated[
        str | None,
        typer.Option(
            metavar="RULE", help="When to fall back: 'loops > 0.01 or p90 > 0.05'.", rich_help_panel=CANARY
        ),
    ] = None,
    rollback_after: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Answers of the candidate before the rule is looked at.",
            show_default="50",
            rich_help_panel=CANARY,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve a model over HTTP, as OpenAI's API, with vLLM or our own engine.

    Chat completions, completions and models, with streaming and usage: any OpenAI client will do. Answers are
    greedy, under the n-gram rule saved with the model. /health and /metrics (Prometheus) are there, too.

    Only this machine reaches the server unless --host says otherwise; then it wants keys. What is too large or
    too much is refused before it is decoded. Ctrl-C or SIGTERM lets requests under way end.
    """
    require("torch", extra="train", why="Serving a model")
    given: dict[str, dict[str, Any]] = {
        "vllm": {"gpu_memory_utilization": gpu_memory_utilization, "eager": eager or None},
        "native": {"mode": mode and mode.value, "device": device and device.value},
    }
    _refuse_others(engine, given, print_)
    both = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "dtype": dtype and dtype.value}
    options = both | given[engine.value]
    wanted = read_wanted(engine.value, model, name, adapter or [], candidate, options)
    hosts = tuple(allow_image_host or ())
    if print_:
        return _print_command(wanted, host, port, hosts, as_json)
    _require_server()
    settings = _settings(
        host=host,
        port=port,
        api_keys=_keys(api_key_env),
        allow_no_keys=allow_no_keys,
        allowed_image_hosts=hosts,
        max_image_bytes=round(max_image_mb * MIB),
        max_pixels=max_pixels,
        max_tokens=max_tokens,
        slots=slots,
        queue=queue,
        request_seconds=request_seconds,
        drain_seconds=drain_seconds,
        log_texts=log_texts,
    )
    asked = {
        "share": share,
        "store": store,
        "keep": keep,
        "rollback_if": rollback_if,
        "rollback_after": rollback_after,
        "shadow": shadow or None,
    }
    return _serve(wanted, settings, _canary_options(candidate, asked), api_key_env, as_json)


def _refuse_others(engine: EngineName, given: dict[str, dict[str, Any]], print_: bool) -> None:
    """Refuses options that the chosen engine does not have."""
    other = EngineName.native if engine is EngineName.vllm else EngineName.vllm
    options = dict(given[other.value]) | ({"print": print_ or None} if other is EngineName.vllm else {})
    named = next((key for key, value in options.items() if value is not None), None)
    if named is not None:
        option = "--" + named.replace("_", "-")
        raise SettingsError(
            f"{option} goes with --engine {other.value} only.",
            place=option,
            mend="Leave it out.",
        )


def _require_server() -> None:
    for module in ("fastapi", "uvicorn", "httpx2", "prometheus_client"):
        require(module, extra="serve", why="Serving a model")


def _serve(
    wanted: Wanted,
    settings: ServerSettings,
    canary: dict[str, Any] | None,
    key_variable: str | None,
    as_json: bool,
) -> None:
    from ocrsmith.serving.app import make_app
    from ocrsmith.serving.server import bind
    from ocrsmith.serving.server import serve as run

    sockets = bind(settings)  # before gigabytes are read
    try:
        base, other = open_backends(wanted)
        backend = base
        if other is not None and canary is not None:
            require("sqlalchemy", extra="serve", why="A canary")
            from ocrsmith.serving.canary import open_canary

            backend = open_canary(base, other, **canary)
            tell(f"Canary: {wanted.candidate.name if wanted.candidate else ''}, kept in {canary['store']}.")

        def ready(url: str) -> None:
            _announce(url, backend, wanted, settings, key_variable, as_json)

        run(make_app(backend, settings), settings, ready=ready, sockets=sockets)
    finally:
        for listener in sockets:
            listener.close()


def _print_command(wanted: Wanted, host: str, port: int, hosts: Sequence[str], as_json: bool) -> None:
    from ocrsmith.serving.vllm.command import shell_line

    made = plan(wanted, installed=False)
    command = made.command(host=host, port=port, image_hosts=hosts)
    if as_json:
        return output.print_json({"command": command, "models": [model.name for model in made.models]})
    tell("# Bare, vLLM has no limits, keys or queue of ours, and takes the n-gram rule from each request:")
    tell(f"#   {_rule(made)}")
    print(shell_line(command))
    return None


def _rule(made: Any) -> str:
    import json

    decoding = made.models[0].decoding
    ids = list(decoding.whitelist_ids(made.processor.tokenizer))
    rule = {"ngram_size": decoding.ngram_size, "window_size": decoding.ngram_window, "whitelist_token_ids": ids}
    return json.dumps({"vllm_xargs": rule} if decoding.ngram_size else {})


def _keys(variable: str | None) -> tuple[str, ...]:
    """The keys in an environment variable. Their values appear nowhere."""
    if variable is None:
        return ()
    keys = tuple(key.strip() for key in os.environ.get(variable, "").split(",") if key.strip())
    if not keys:
        raise SettingsError(
            f"The environment variable {variable} is empty.",
            place="--api-key-env",
            mend=f"export {variable}=KEY, or KEY1,KEY2",
        )
    return keys


def _settings(**given: Any) -> ServerSettings:
    """The server's settings. A request holds its image as base64 and a little more."""
    from ocrsmith.serving.settings import ServerSettings

    body = max(32 * MIB, given["max_image_bytes"] * 4 // 3 + MIB)
    values = {key: value for key, value in given.items() if value is not None}
    held = max(512 * MIB, 2 * body)
    return ServerSettings.from_values({**values, "max_body_bytes": body, "max_held_bytes": held})


def _canary_options(candidate: str | None, given: dict[str, Any]) -> dict[str, Any] | None:
    """What `open_canary` takes; None where there is no candidate."""
    if candidate is None:
        named = next((key for key, value in given.items() if value is not None), None)
        if named is not None:
            option = "--" + named.replace("_", "-")
            raise SettingsError(
                f"{option} is about a candidate.",
                place=option,
                mend="Name it: --candidate B.",
            )
        return None
    return {
        "store": given["store"] or _STORE,
        "share": _share(given["share"] or "0", "--share"),
        "shadow": bool(given["shadow"]),
        "keep": _share(given["keep"] or "1%", "--keep"),
        "rollback_if": given["rollback_if"],
        "rollback_after": 50 if given["rollback_after"] is None else given["rollback_after"],
    }


def _share(text: str, option: str) -> float:
    """5% or 0.05, as a fraction."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SettingsError(f"{text!r} is no share.", place=option, mend="Give one such as 5% or 0.05.")
    return share


def _announce(
    url: str,
    backend: Backend,
    wanted: Wanted,
    settings: ServerSettings,
    key_variable: str | None,
    as_json: bool,
) -> None:
    """Says what is served, where, with which limits, and how to ask."""
    models = list(backend.models)
    if as_json:
        names = [model.name for model in models]
        output.print_json({"url": f"{url}/v1", "models": names, "engine": wanted.engine})
    shown = ", ".join(model.name + (f" (on {model.parent})" if model.parent else "") for model in models)
    tell(f"Serving {shown} at {url}/v1 with {wanted.engine}.")
    tell(
        f"Limits: {settings.slots} requests at a time, {settings.queue} wait; images to "
        f"{settings.max_image_bytes / MIB:g} MiB and {settings.max_pixels / 1e6:.0f} megapixels; "
        f"{settings.request_seconds:g} s for an answer."
    )
    local = _is_loopback(settings.host)
    if key_variable:
        tell(f"Keys: asked for, {len(settings.api_keys)} in ${key_variable}.")
    else:
        tell(f"Keys: none. Whoever reaches {'this machine' if local else settings.host} may ask.")
    tell(example(url, models[0].name, key_variable))


def example(url: str, model: str, key_variable: str | None) -> str:
    """How to ask: with curl and with the openai package."""
    header = f' -H "Authorization: Bearer ${key_variable}"' if key_variable else ""
    key = f'os.environ["{key_variable}"]' if key_variable else '"none"'
    imports = "base64, os" if key_variable else "base64"
    begin = (
        f'{{"model": "{model}", "messages": [{{"role": "user", "content": '
        '[{"type": "image_url", "image_url": {"url": "data:image/png;base64,'
    )
    return f"""
  (printf '%s' '{begin}'; base64 -w0 page.png; printf '"}}}}]}}]}}') |
    curl {url}/v1/chat/completions -H 'Content-Type: application/json'{header} -d @-

  import {imports}
  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key={key})
  encoded = base64.b64encode(open("page.png", "rb").read()).decode()
  image = {{"type": "image_url", "image_url": {{"url": "data:image/png;base64," + encoded}}}}
  answer = client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": [image]}}])
"""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
