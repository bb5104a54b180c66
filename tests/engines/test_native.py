"""The native engine on a tiny random model: plain greedy decoding, whatever the batch; failures stay small."""

from __future__ import annotations

import copy
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ocrsmith.cli import main as cli
from ocrsmith.engines.base import Engine, PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine, PageFeatures, choose_device, folder_hash
from ocrsmith.engines.native.loop_end import LOOP_TOKENS
from ocrsmith.errors import AdapterError, InputError, SettingsError, WeightsError
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.lora import add_lora, save_adapter
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import save_model
from ocrsmith.records import Prediction
from ocrsmith.settings import LoraSettings

BOS, EOS, PAD, IMAGE, TD, TD_END = range(6)
VOCABULARY = 262
FREE = DecodingSettings(max_new_tokens=12, ngram_size=0)
"""Short answers without loop control: random models repeat themselves."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, after the special ones."""
    special = ["<s>", "</s>", "<pad>", "<image>", "<td>", "</td>"]
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def random_model(seed: int = 0, context: int = 1024) -> OcrModel:
    torch.manual_seed(seed)
    sam = {"width": 16, "layers": 1, "heads": 2, "global_attn_indexes": [0], "out_chans": 8, "window_size": 4}
    config = OcrConfig(
        language_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "max_position_embeddings": context,
        },
        vision_config={
            "width": {
                "sam_vit_b": {**sam, "downsample_channels": [16, 16]},
                "clip-l-14-224": {"width": 16, "layers": 1, "heads": 2, "image_size": 224},
            }
        },
        projector_config={"input_dim": 32, "n_embed": 32, "projector_type": "linear"},
        image_token_id=IMAGE,
    )
    model = OcrModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
        # pixels reach every answer: without this a random encoder hardly tells images apart
        model.model.projector.layers.weight.mul_(20)
        model.lm_head.weight[[BOS, EOS, PAD, IMAGE]] = 0  # bytes only
    return model


@pytest.fixture(scope="module")
def model() -> OcrModel:
    return random_model()


@pytest.fixture(scope="module")
def processor(tokenizer: PreTrainedTokenizerFast) -> OcrProcessor:
    return OcrProcessor(tokenizer, ProcessingSettings(mode="tiny", prompt="<image>\nRead."))


def page(seed: int, width: int = 80, height: int = 40) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST).save(buffer, format="PNG")
    return buffer.getvalue()


def requests(count: int = 5) -> list[PageRequest]:
    """Pages whose prompts differ in length, so that batches are padded."""
    return [
        PageRequest(f"p{n}", page(n), f"<image>\nRead{'!' * n}", expected_length=n % 3) for n in range(count)
    ]


def read(engine: Engine, asked: Sequence[PageRequest]) -> dict[str, Prediction]:
    answers = list(engine.read(asked))
    assert sorted(answer.id for answer in answers) == sorted(request.id for request in asked)
    return {answer.id: answer for answer in answers}


@torch.no_grad()
def plain_greedy(
    model: OcrModel, processor: OcrProcessor, request: PageRequest, steps: int
) -> tuple[list[int], list[float]]:
    """Greedy decoding without cache, padding or batch: the whole sequence anew for each token."""
    batch = processor.collate([processor.encode([request.image], prompt=request.prompt)])
    ids, chosen, logprobs = batch["input_ids"], [], []
    for _ in range(steps):
        output = model(
            input_ids=ids, views=batch["views"], image_layouts=batch["image_layouts"], use_cache=False
        )
        row = output.logits[0, -1].float().log_softmax(-1)
        token = int(row.argmax())
        chosen.append(token)
        logprobs.append(float(row[token]))
        if token == EOS:
            break
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return chosen, logprobs


def with_end(model: OcrModel, token: int) -> OcrModel:
    """The same model, ending its answer where it would have said `token`."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.lm_head.weight[EOS] = changed.lm_head.weight[token]
        changed.lm_head.weight[token] = 0
    return changed


def test_batched_decoding_is_plain_greedy_decoding(model: OcrModel, processor: OcrProcessor) -> None:
    asked = requests()
    answers = read(NativeEngine(model, processor, decoding=FREE, batch_size=3), asked)
    assert len({answer.text for answer in answers.values()}) > 1, "the model tells the pages apart"
    for request in asked:
        tokens, logprobs = plain_greedy(model, processor, request, 12)
        answer = answers[request.id]
        assert answer.text == processor.decode(tokens).strip()
        assert answer.tokens == 12
        assert answer.finish_reason == "length"
        assert answer.logprob_mean == pytest.approx(sum(logprobs) / 12, abs=1e-4)
        assert answer.logprob_min == pytest.approx(min(logprobs), abs=1e-4)
        assert answer.token_logprobs == pytest.approx(logprobs, abs=1e-4)
        assert len(answer.token_ends) == 12
        assert answer.token_ends[-1] == len(answer.text)
        assert (answer.mode, answer.attempts) == ("tiny", 1)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_an_answer_does_not_depend_on_its_batch(
    model: OcrModel, processor: OcrProcessor, batch_size: int
) -> None:
    alone = read(NativeEngine(model, processor, decoding=FREE, batch_size=1), requests())
    others = read(NativeEngine(model, processor, decoding=FREE, batch_size=batch_size), requests()[::-1])
    for name, answer in alone.items():
        assert others[name].text == answer.text
        assert others[name].logprob_mean == pytest.approx(answer.logprob_mean, abs=1e-4)


def test_an_answer_ends_with_eos_while_others_go_on(model: OcrModel, processor: OcrProcessor) -> None:
    asked = requests(3)
    tokens, _ = plain_greedy(model, processor, asked[0], 12)
    ending = with_end(model, tokens[2])
    answers = read(NativeEngine(ending, processor, decoding=FREE, batch_size=3), asked)
    for request in asked:
        expected, _ = plain_greedy(ending, processor, request, 12)
        answer = answers[request.id]
        assert answer.tokens == len(expected)
        assert answer.text == processor.decode(expected).strip()
        assert (answer.finish_reason == "stop") == (expected[-1] == EOS)
    assert answers["p0"].finish_reason == "stop"
    assert answers["p0"].tokens <= 3


def test_loop_control_counts_generated_tokens_only(model: OcrModel, processor: OcrProcessor) -> None:
    decoding = DecodingSettings(max_new_tokens=20, ngram_size=2, ngram_window=20, ngram_whitelist=())
    answers = read(NativeEngine(model, processor, decoding=decoding, batch_size=3), requests(3))
    free = read(NativeEngine(model, processor, decoding=FREE, batch_size=3), requests(3))
    for name, answer in answers.items():
        assert answer.text[:1] == free[name].text[:1]
        assert answer.logprob_min is not None
        assert math.isfinite(answer.logprob_min)


def constant_model(token: int) -> OcrModel:
    """Says one token for ever: its last hidden state is always the same."""
    model = random_model()
    with torch.no_grad():
        model.model.norm.weight.zero_()
        model.lm_head.weight.zero_()
    model.lm_head = torch.nn.Linear(32, VOCABULARY, bias=True)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.zero_()
        model.lm_head.bias[token] = 5.0
    return model


def test_endless_repetition_is_stopped_and_called_a_loop(processor: OcrProcessor) -> None:
    decoding = DecodingSettings(max_new_tokens=700, ngram_size=0)
    engine = NativeEngine(constant_model(90), processor, decoding=decoding)
    (answer,) = engine.read([PageRequest("p", page(1))])
    assert answer.finish_reason == "loop"
    assert LOOP_TOKENS <= answer.tokens < 700


def test_repetition_up_to_a_low_limit_is_called_a_loop(processor: OcrProcessor) -> None:
    engine = NativeEngine(
        constant_model(90), processor, decoding=DecodingSettings(max_new_tokens=40, ngram_size=0)
    )
    (answer,) = engine.read([PageRequest("p", page(1))])
    assert (answer.finish_reason, answer.tokens) == ("loop", 40)


def test_the_context_ends_each_answer_by_itself(processor: OcrProcessor) -> None:
    short, long = PageRequest("short", page(1)), PageRequest("long", page(2), "<image>\n" + "Read. " * 10)
    lengths = {
        name: processor.encode([r.image], prompt=r.prompt).num_tokens for name, r in (("s", short), ("l", long))
    }
    context = lengths["l"] + 3
    engine = NativeEngine(random_model(context=context), processor, decoding=DecodingSettings(ngram_size=0))
    answers = read(engine, [short, long, PageRequest("too long", page(3), "<image>\n" + "Read. " * 20)])
    assert answers["long"].tokens == 3
    assert answers["short"].tokens == context - lengths["s"]
    assert answers["too long"].finish_reason == "error"
    assert f"the context is {context}" in (answers["too long"].error or "")


def test_a_bad_image_fails_alone(model: OcrModel, processor: OcrProcessor) -> None:
    asked = [*requests(3), PageRequest("bad", b"not an image"), PageRequest("cut", page(7)[:60])]
    answers = read(NativeEngine(model, processor, decoding=FREE, batch_size=5), asked)
    good = read(NativeEngine(model, processor, decoding=FREE, batch_size=5), requests(3))
    for name in ("bad", "cut"):
        assert answers[name].finish_reason == "error"
        assert answers[name].text == ""
        assert answers[name].error
    assert {name: answers[name].text for name in good} == {name: answer.text for name, answer in good.items()}


class Failing:
    """Stands before a model: its decoder raises what a real one may raise, by the lengths of the prompts."""

    def __init__(self, model: OcrModel, fails: Callable[[list[int]], Exception | None]) -> None:
        self.real = model
        self.fails = fails
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def decode(self, embeds: torch.Tensor, positions: torch.Tensor, attend: Any, **more: Any) -> torch.Tensor:
        lengths = attend.packed.lengths
        self.sizes.append(len(lengths))
        error = self.fails(lengths)
        if error is not None:
            raise error
        return self.real.decode(embeds, positions, attend, **more)


def test_too_little_memory_makes_batches_smaller(model: OcrModel, processor: OcrProcessor) -> None:
    tight = Failing(model, lambda lengths: torch.OutOfMemoryError("2 GiB") if len(lengths) > 2 else None)
    engine = NativeEngine(tight, processor, decoding=FREE, batch_size=4)
    answers = read(engine, requests(4))
    plenty = read(NativeEngine(model, processor, decoding=FREE, batch_size=4), requests(4))
    assert {name: answer.text for name, answer in answers.items()} == {n: a.text for n, a in plenty.items()}
    assert tight.sizes == [4, 2, 2]
    assert engine.batch_size == 2


def test_a_page_that_breaks_the_model_fails_alone(model: OcrModel, processor: OcrProcessor) -> None:
    long = max(processor.encode([r.image], prompt=r.prompt).num_tokens for r in requests(4))
    broken = Failing(model, lambda lengths: RuntimeError("bad page") if long in lengths else None)
    answers = read(NativeEngine(broken, processor, decoding=FREE, batch_size=4), requests(4))
    assert {name for name, answer in answers.items() if answer.finish_reason == "error"} == {"p3"}
    assert answers["p3"].error == "RuntimeError: bad page"


def test_interruption_is_not_swallowed(model: OcrModel, processor: OcrProcessor) -> None:
    def interrupt(inputs: Any) -> Exception | None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(NativeEngine(Failing(model, interrupt), processor, decoding=FREE).read(requests(2)))


def test_reading_leaves_training_mode_as_it_was(processor: OcrProcessor) -> None:
    model = random_model().train()
    engine = NativeEngine(model, processor, decoding=FREE, batch_size=2)
    seen: list[int] = []
    assert len(list(engine.read(requests(3), progress=seen.append))) == 3
    assert model.training
    assert seen == [1, 1, 1]


def test_nothing_to_read_is_nothing(model: OcrModel, processor: OcrProcessor) -> None:
    assert list(NativeEngine(model, processor).read([])) == []


def test_features_are_kept_for_the_next_reading_up_to_a_limit(model: OcrModel, processor: OcrProcessor) -> None:
    passes: list[int] = []
    hook = model.model.sam_model.register_forward_pre_hook(lambda _, views: passes.append(len(views[0])))
    expected = read(NativeEngine(model, processor, decoding=FREE, batch_size=2), requests())
    passes.clear()
    features = PageFeatures(2**20)
    for _ in range(2):
        found = read(NativeEngine(model, processor, decoding=FREE, batch_size=2, features=features), requests())
        assert {name: page.text for name, page in found.items()} == {
            name: page.text for name, page in expected.items()
        }
    assert passes == [2, 2, 1]  # the second reading adds nothing
    assert 0 < features.room < 2**20
    full = PageFeatures(0)
    read(NativeEngine(model, processor, decoding=FREE, features=full), requests())
    read(NativeEngine(model, processor, decoding=FREE, features=full), requests())
    assert passes == [2, 2, 1, 4, 1, 4, 1]
    hook.remove()


def test_describe_tells_settings_and_runtime_apart(model: OcrModel, processor: OcrProcessor) -> None:
    engine = NativeEngine(model, processor, decoding=FREE, batch_size=7)
    described = json.loads(json.dumps(engine.describe()))
    assert described["decoding"]["max_new_tokens"] == 12
    assert described["processing"]["mode"] == "tiny"
    assert described["dtype"] == "float32"
    assert described["runtime"] == {"device": "cpu", "batch_size": 7}
    assert isinstance(engine, Engine)


def test_a_tokenizer_of_another_model_is_refused(processor: OcrProcessor) -> None:
    model = random_model()
    model.config.image_token_id = 200
    with pytest.raises(InputError, match="The tokenizer's <image> is 3, the model's 200"):
        NativeEngine(model, processor)


@pytest.fixture(scope="module")
def folder(model: OcrModel, processor: OcrProcessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a folder in hub layout."""
    target = tmp_path_factory.mktemp("model")
    save_model(model, target)
    processor.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def adapter(processor: OcrProcessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes every answer, with settings of its own."""
    target = tmp_path_factory.mktemp("adapters") / "adapter"
    tuned = add_lora(random_model(), LoraSettings(r=4, alpha=8))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.5)
    own = OcrProcessor(processor.tokenizer, ProcessingSettings(mode="tiny", prompt="<image>\nOwn prompt."))
    save_adapter(tuned, target, own, decoding={"max_new_tokens": 9, "ngram_size": 0})
    return target


def test_a_folder_is_loaded_with_its_settings(folder: Path, model: OcrModel, processor: OcrProcessor) -> None:
    engine = NativeEngine.load(str(folder), device="cpu", max_new_tokens=12)
    assert engine.processor.settings == processor.settings
    assert engine.describe()["model"] == {"name": str(folder), "hash": folder_hash(folder)}
    assert engine.describe()["adapter"] is None
    texts = {name: answer.text for name, answer in read(engine, requests(2)).items()}
    decoding = DecodingSettings(max_new_tokens=12)
    direct = read(NativeEngine(model, processor, decoding=decoding), requests(2))
    assert texts == {name: answer.text for name, answer in direct.items()}


def test_an_adapter_changes_answers_and_brings_its_settings(folder: Path, adapter: Path) -> None:
    base = NativeEngine.load(str(folder), device="cpu", max_new_tokens=9)
    tuned = NativeEngine.load(str(folder), adapter=adapter, device="cpu")
    assert tuned.processor.settings.prompt == "<image>\nOwn prompt."
    assert tuned.decoding.max_new_tokens == 9
    assert tuned.describe()["adapter"]["hash"] == folder_hash(adapter)
    before, after = read(base, requests(3)), read(tuned, requests(3))
    assert all(before[name].text != after[name].text for name in before)


def test_options_win_over_saved_settings(folder: Path, adapter: Path) -> None:
    engine = NativeEngine.load(str(folder), adapter=adapter, mode="small", max_new_tokens=4, device="cpu")
    assert engine.processor.settings.mode == "small"
    assert engine.decoding.max_new_tokens == 4
    assert engine.decoding.ngram_size == 0


def test_the_hash_is_of_content(folder: Path, adapter: Path, tmp_path: Path) -> None:
    twin = tmp_path / "elsewhere"
    shutil.copytree(folder, twin)
    assert folder_hash(twin) == folder_hash(folder) != folder_hash(adapter)
    weights = twin / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert folder_hash(twin) != folder_hash(folder)


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [("tpu", "auto", "no device 'tpu'"), ("cpu", "int8", "no dtype 'int8'")],
)
def test_wrong_devices_and_dtypes_are_refused(device: Any, dtype: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        choose_device(device, dtype)


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="no CUDA device"):
        choose_device("cuda", "auto")
    assert choose_device("auto", "auto") == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_reads_too(folder: Path, dtype: Any) -> None:
    engine = NativeEngine.load(str(folder), device="cpu", dtype=dtype, max_new_tokens=3)
    answers = read(engine, requests(2))
    assert {answer.finish_reason for answer in answers.values()} <= {"length", "stop"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset of four test pages, one of them damaged."""
    target = tmp_path / "data"
    target.mkdir()
    images = [page(0), page(1), page(2)[:50], page(3)]
    rows = {
        "image": [{"bytes": image, "path": f"{n}.png"} for n, image in enumerate(images)],
        "text": ["a"] * 4,
    }
    pq.write_table(pa.table(rows), target / "test-00000-of-00001.parquet")
    return target


def test_the_command_evaluates(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "eval",
        "--model",
        str(folder),
        "--data",
        str(data),
        "-o",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert cli.main([*words, "--max-new-tokens", "4", "--json"]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert (printed["n"], printed["failed"]) == (4, 1)
    assert printed["provenance"]["engine"]["model"]["hash"] == folder_hash(folder)
    assert "1 page of 4 failed" in captured.err
    assert (tmp_path / "out" / "report.html").is_file()

    assert cli.main([*words, "--max-new-tokens", "4"]) == 0  # finished: nothing is read again
    assert "Mean CER" in capsys.readouterr().out
    assert cli.main([*words, "--max-new-tokens", "5"]) == 2
    assert "engine.decoding.max_new_tokens: 4, now 5" in capsys.readouterr().err


def test_two_evaluations_of_a_dataset_are_compared_with_its_images(
    folder: Path, adapter: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "--model", str(folder), "--data", str(data), "--device", "cpu", "--max-new-tokens", "4"]
    base, tuned = str(tmp_path / "base"), str(tmp_path / "tuned")
    assert cli.main([*words, "-o", base]) == 0
    assert cli.main([*words, "-o", tuned, "--adapter", str(adapter)]) == 0
    capsys.readouterr()
    assert cli.main(["compare", base, tuned, "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 4
    shown = (tmp_path / "out" / "comparison.html").read_text()
    printed = json.loads((tmp_path / "out" / "comparison.json").read_text())
    changed = [item["id"] for item in printed["improved"] + printed["worsened"]]
    assert shown.count("<img") == len([name for name in changed if name != "test-2"])  # that one is damaged


def test_ctrl_c_keeps_what_was_read(
    folder: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["eval", "--model", str(folder), "--data", str(data), "-o", str(tmp_path / "out")]
    words += ["--device", "cpu", "--max-new-tokens", "4", "--batch-size", "1"]
    answer = NativeEngine.read

    def interrupted(self: NativeEngine, *given: Any, **named: Any) -> Iterator[Prediction]:
        for number, prediction in enumerate(answer(self, *given, **named)):
            if number == 2:
                raise KeyboardInterrupt
            yield prediction

    monkeypatch.setattr(NativeEngine, "read", interrupted)
    assert cli.main(words) == 130
    assert "2 of 4 pages are kept" in capsys.readouterr().err
    monkeypatch.setattr(NativeEngine, "read", answer)
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 4


def test_a_folder_without_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds nothing"):
        NativeEngine.load(str(tmp_path / "empty"), device="cpu")
    shutil.copytree(folder, tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"No \*.safetensors"):
        NativeEngine.load(str(tmp_path / "half"), device="cpu")


def test_a_missing_adapter_and_one_of_another_base_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError):
        NativeEngine.load(str(folder), adapter=tmp_path / "nothing", device="cpu")
    other = add_lora(random_model(seed=9), LoraSettings(r=2))
    save_adapter(other, tmp_path / "other")
    with pytest.raises(AdapterError, match="another base"):
        NativeEngine.load(str(folder), adapter=tmp_path / "other", device="cpu")
