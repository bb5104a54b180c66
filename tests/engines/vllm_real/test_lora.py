"""An exported adapter in vLLM's LoRA does what the native engine does with it; run by `make test-vllm`.

The decoder here has no experts: with them, vLLM takes its kernels for a GPU as soon as LoRA is switched on, and
no request succeeds on a CPU. So this holds attention and dense MLPs, and says nothing of experts.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ocrsmith.engines.native import NativeEngine
from ocrsmith.engines.registry import open_engine
from ocrsmith.model.adapter_files import WEIGHTS_FILE
from ocrsmith.model.lora import add_lora, save_adapter
from ocrsmith.model.weights import load_model
from ocrsmith.records import Prediction
from ocrsmith.settings.lora import LoraSettings

from .checkpoint import CONTEXT, FREE, PAGES, make_config, write_checkpoint
from .commands import command
from .servers import Server, serving

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
RANK = 8
HUB_KEY = re.compile(
    r"base_model\.model\.model\.layers\.\d+\."
    r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.lora_[AB]\.weight"
)
Readings = dict[str, dict[str, Prediction]]


@pytest.fixture(scope="module")
def dense(place: Path) -> Path:
    """A model folder whose decoder has no experts."""
    return write_checkpoint(place / "dense", make_config(layers=2, dense_layers=2))


@pytest.fixture(scope="module")
def exported(place: Path, dense: Path) -> Path:
    """An adapter strong enough to change every answer, as `ocrsmith export --to adapter` writes it."""
    model = add_lora(load_model(str(dense)), LoraSettings(r=RANK, alpha=2 * RANK))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    save_adapter(model, place / "strong")
    out = place / "adapter"
    command("export", str(place / "strong"), "--model", str(dense), "--to", "adapter", "-o", str(out))
    return out


@pytest.fixture(scope="module")
def renamed(place: Path, exported: Path) -> Path:
    """The same adapter under the names of transformers' own class."""
    folder = place / "renamed"
    shutil.copytree(exported, folder)
    tensors = load_file(exported / WEIGHTS_FILE)
    names = {
        name: name.replace(".model.model.layers.", ".model.model.language_model.layers.") for name in tensors
    }
    assert not set(names.values()) & set(names)
    save_file({names[name]: tensor for name, tensor in tensors.items()}, folder / WEIGHTS_FILE)
    return folder


@pytest.fixture(scope="module")
def here(dense: Path, exported: Path) -> Readings:
    """What the native engine reads: with the base, and with the adapter."""
    readings: Readings = {}
    for name, adapter in (("base", None), ("exported", exported)):
        engine = NativeEngine.load(str(dense), adapter=adapter, device="cpu", dtype="float32", batch_size=2)
        answers = engine.adjusted(decoding=FREE).read(list(PAGES.values()))
        readings[name] = {answer.id: answer for answer in answers}
        del engine
    return readings


@pytest.fixture(scope="module")
def lora_server(dense: Path, exported: Path, renamed: Path, here: Readings, place: Path) -> Iterator[Server]:
    from ocrsmith.serving.vllm.command import vllm_command, vllm_environment

    with serving(
        lambda port: vllm_command(
            str(dense),
            name="base",
            context=CONTEXT,
            adapters={"exported": exported, "renamed": renamed},
            rank=RANK,
            dtype="float32",
            batch_size=2,
            eager=True,
            port=port,
        ),
        log=place / "lora_server.log",
        environment=vllm_environment(),
    ) as running:
        yield running


def there(server: Server, model: str) -> dict[str, Prediction]:
    """What vLLM reads over HTTP with a model that it serves."""
    engine = open_engine(
        "openai", base_url=f"{server.url}/v1", model=model, dialect="vllm", decoding=FREE, retries=0
    )
    return {answer.id: answer for answer in engine.read(list(PAGES.values()))}


def test_the_exported_names_are_the_hubs(exported: Path) -> None:
    names = load_file(exported / WEIGHTS_FILE)
    assert len(names) == 2 * 2 * 7, "A and B of seven matrices in two layers"
    assert [name for name in names if not HUB_KEY.fullmatch(name)] == []


def test_adapters_are_listed_beside_the_base(lora_server: Server) -> None:
    assert [model["id"] for model in lora_server.get("/v1/models")["data"]] == ["base", "exported", "renamed"]


@pytest.mark.parametrize("model", ["base", "exported"])
def test_vllm_reads_with_the_adapter_as_the_native_engine_does(
    lora_server: Server, here: Readings, model: str
) -> None:
    for page, answer in there(lora_server, model).items():
        expected = here[model][page]
        assert (answer.text, answer.tokens, answer.error) == (expected.text, expected.tokens, None)
        assert answer.token_ends == expected.token_ends
        assert answer.token_logprobs == pytest.approx(expected.token_logprobs, abs=2e-3)


def test_the_adapter_changes_every_answer(here: Readings) -> None:
    for page in PAGES:
        assert here["exported"][page].text[:4] != here["base"][page].text[:4]


def test_under_other_names_an_adapter_loads_and_does_nothing(lora_server: Server, here: Readings) -> None:
    """Why the names of the export matter: vLLM gives no error."""
    for page, answer in there(lora_server, "renamed").items():
        assert (answer.text, answer.error) == (here["base"][page].text, None)
