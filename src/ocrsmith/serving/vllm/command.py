"""vLLM's OpenAI server for DeepSeek-OCR: its command line, and what must be true before gigabytes are read."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ocrsmith.engines.vllm.engine import BATCH_SIZE, OLDEST, check_model
from ocrsmith.engines.vllm.requests import model_arguments
from ocrsmith.errors import InputError, MissingExtraError, SettingsError, WeightsError
from ocrsmith.export.folder import with_bos_rule
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.tokens import OcrTokens, load_tokenizer
from ocrsmith.model.weights import read_config, stored_tensors

MODULE = "vllm.entrypoints.openai.api_server"
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM 0.32 makes room for."""
NO_HOST = "images-as-data-uris-only.invalid"
"""A host that cannot exist: with it as the only one allowed, vLLM fetches nothing."""
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONSAFEPATH": "1",  # what lies in the working folder is not imported
    "PYTHONUNBUFFERED": "1",
}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def vllm_command(
    folder: str,
    *,
    name: str,
    context: int,
    adapters: Mapping[str, Path] | None = None,
    rank: int = 0,
    dtype: str = "auto",
    batch_size: int = BATCH_SIZE,
    gpu_memory_utilization: float | None = None,
    eager: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    socket: Path | None = None,
    image_hosts: Sequence[str] = (),
    python: str = sys.executable,
) -> list[str]:
    """The argument vector of vLLM's OpenAI server for a model folder.

    The flags are those of `model_arguments`, so that the server reads pages as the engine vllm does, and some
    for a server: greedy whatever the folder says, weights from safetensors only, no texts in logs, no images
    fetched from hosts that are not named.

    Args:
        folder: of the model, merged if it was fine-tuned.
        name: what clients ask for.
        context: longest sequence in tokens.
        adapters: folders of adapters by name, for vLLM's LoRA.
        rank: the largest rank among them.
        dtype: `auto` takes that of the weights.
        batch_size: requests that are decoded at a time.
        gpu_memory_utilization: share of the GPU's memory; None leaves it to vLLM.
        eager: no compiling: a slower server that begins sooner.
        host, port: where it listens.
        socket: a Unix socket to listen on instead.
        image_hosts: hosts from which images may be fetched.
        python: the interpreter that has vLLM.

    Raises:
        SettingsError: a rank that vLLM does not have.
    """
    arguments = model_arguments(
        folder,
        dtype=dtype,
        context=context,
        batch_size=batch_size,
        gpu_memory_utilization=gpu_memory_utilization,
        eager=eager,
    )
    place: dict[str, Any] = {"host": host, "port": port} if socket is None else {"uds": str(socket)}
    arguments |= {
        "served_model_name": name,
        "load_format": "safetensors",
        "generation_config": "vllm",  # not the folder's, which may sample or punish repetition
        "override_generation_config": {"temperature": 0.0},
        "allowed_media_domains": list(image_hosts) or [NO_HOST],
        "enable_log_requests": False,
        "disable_uvicorn_access_log": True,
        **place,
    }
    if adapters:
        arguments |= {
            "enable_lora": True,
            "max_loras": len(adapters),
            "max_lora_rank": _room_for(rank),
            "lora_modules": [
                json.dumps({"name": adapter, "path": str(path), "base_model_name": name})
                for adapter, path in adapters.items()
            ],
        }
    return [python, "-m", MODULE, *_flags(arguments)]


def _room_for(rank: int) -> int:
    room = next((known for known in LORA_RANKS if known >= rank), None)
    if room is None:
        raise SettingsError(
            f"An adapter has rank {rank}, and vLLM takes {LORA_RANKS[-1]} at most.",
            place="--adapter",
            mend="Merge it with `ocrsmith export` and serve that folder.",
        )
    return room


def _flags(arguments: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as flags: `max_num_seqs=8` is `--max-num-seqs 8`."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            values = value if isinstance(value, list) else [value]
            words.append(f"--{flag}")
            words += [json.dumps(item) if isinstance(item, dict) else str(item) for item in values]
    return words


def shell_line(command: Sequence[str]) -> str:
    """A command for a shell, a flag to a line."""
    lines: list[list[str]] = [[]]
    for word in command:
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(words) for words in lines)


def vllm_environment() -> dict[str, str]:
    """The environment of a vLLM that is started here: this one's, without reports to its makers.

    A `VLLM_API_KEY` is left out: nobody but this process reaches the socket, and clients' keys are asked for
    before.
    """
    return {name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"} | _ENVIRONMENT


def vllm_version() -> str:
    """The version of the vLLM that is installed here, found without loading it.

    Raises:
        MissingExtraError: there is none.
        SettingsError: it is too old.
    """
    if find_spec("vllm") is None:
        raise MissingExtraError(
            "Serving with vLLM needs the package 'vllm', which is not installed.",
            mend="pip install 'ocrsmith[vllm]', or serve with --engine native",
        )
    names = metadata.packages_distributions().get("vllm", ["vllm"])
    try:
        version = metadata.version(names[0])
    except metadata.PackageNotFoundError:  # a source tree on the path
        return "unknown"
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(parts) == 2 and parts < OLDEST:
        raise SettingsError(
            f"vLLM {version} is too old.",
            place="vllm",
            mend=f"Install {'.'.join(map(str, OLDEST))} or newer: pip install -U vllm",
        )
    return version


def check_weights(folder: Path) -> OcrConfig:
    """Finds what vLLM would not say, or say badly, before gigabytes are read. Only headers are.

    Returns:
        The model's config.

    Raises:
        WeightsError: no model, a damaged one, or pickled weights.
        InputError: another encoder than vLLM's, or tokenizer files that are missing.
    """
    config = read_config(folder)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles and not any(folder.glob("*.safetensors")):
        raise WeightsError(
            f"The weights are pickled ({pickles[0]}): reading them could run code.",
            place=str(folder),
            mend="Take the model's safetensors files, or convert them where you trust the file.",
        )
    stored_tensors(folder)
    check_model(folder, config)
    return config


def check_texts(folder: Path) -> None:
    """Finds what would make vLLM read prompts otherwise than the model was trained, or run foreign code.

    A folder that `ocrsmith export` wrote has neither.

    Raises:
        InputError: the folder names code of its own, or its tokenizer has no rule for bos.
    """
    problems = [*_code(folder), *_bos(folder)]
    if problems:
        raise InputError(
            f"vLLM would not read this folder as the model was trained: {'; '.join(problems)}.",
            place=str(folder),
            mend=f"Run `ocrsmith export {shlex.quote(str(folder))} -o NEW`, and serve NEW.",
        )


def _code(folder: Path) -> list[str]:
    found = []
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in json.loads((folder / name).read_text(encoding="utf-8-sig")):
            found.append(f"{name} names code of its own (auto_map)")
    return found


def _bos(folder: Path) -> list[str]:
    rules = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(folder)
    tokens = OcrTokens(tokenizer)
    if with_bos_rule(rules, str(tokenizer.bos_token), tokens.bos) == rules:
        return []
    return ["tokenizer.json has no rule that begins a text with bos, so that prompts would come without it"]
