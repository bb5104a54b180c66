"""Wrong input to `ocrsmith train`: one clear message, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ocrsmith.cli.main import main
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings

from ..training.conftest import byte_tokenizer, digits, make_model, model_folder  # noqa: F401


@pytest.fixture(scope="module")
def processor() -> OcrProcessor:
    return OcrProcessor(byte_tokenizer(), ProcessingSettings(mode="tiny"))


@pytest.fixture
def dataset(source: Path, tmp_path: Path, capsys) -> Path:
    assert main(["data", "build", str(source / "content.md"), "-o", str(tmp_path / "data")]) == 0
    capsys.readouterr()
    return tmp_path / "data"


@pytest.fixture
def refused(model_folder, dataset, tmp_path, capsys):  # noqa: F811
    """Runs `train` with more options and returns its message; exit code 2, no run folder."""

    def run(*options: str, model: Path | str = model_folder, data: Path | str = dataset) -> str:
        out = tmp_path / "run"
        before = sorted(out.rglob("*")) if out.exists() else None
        base = ["train", "--model", str(model), "--data", str(data), "-o", str(out), "--max-steps", "1"]
        assert main([*base, *options]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert "Error:" in captured.err
        assert (sorted(out.rglob("*")) if out.exists() else None) == before
        return captured.err

    return run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--learning-rate", "0"], "learning_rate = 0.0: input should be greater than 0"),
        (["--batch-size", "-1"], "batch_size = -1"),
        (["--set", "lora.targets=[everything]"], "lora.targets.0 = 'everything'"),
        (["--set", "lerning_rate=1"], "Unknown option 'lerning_rate'"),
        (["--set", "nothing"], "assigns nothing"),
        (["--set", "learning_rate=null"], "learning_rate = None: input should be a valid number"),
        (["--set", "lora=16"], "lora = 16"),
        (["--set", "lora.alpha=.inf"], "lora.alpha = inf: input should be a finite number"),
        (["--epochs", "1"], "max_steps and epochs exclude each other"),
        (["--set", "epochs=1"], "max_steps and epochs exclude each other"),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
        (["--patience", "0"], "patience = 0"),
        (["--micro-batch", "0"], "micro_batch = 0"),
        (["--gradient-checkpointing", "some"], "--gradient-checkpointing"),
        (["--set", "gradient_checkpointing=some"], "gradient_checkpointing = 'some'"),
        (["--quantization", "nf8"], "--quantization"),
        (["--set", "packing=maybe"], "packing = 'maybe'"),
        (["--set", "compiled=on", "--device", "cpu"], "compiled = 'on': it needs a GPU"),
        (["--set", "expert_kernel=fast"], "expert_kernel = 'fast'"),
        (["--eval-every", "-3"], "eval_every = -3"),
        (["--seed", "-1"], "seed = -1"),
        (["--lora-r", "0"], "lora.r = 0"),
        (["--lora-r", "many"], "--lora-r"),
        (["--set", "processing.min_tiles=8", "--set", "processing.max_tiles=4"], "min_tiles = 8 is above"),
        (["--set", "precision=fp16", "--device", "cpu"], "precision = 'fp16'"),
        (["--prompt", "Read this."], "has no <image>"),
        (["--mode", "huge"], "--mode"),
        (["--config", "absent.yaml"], "does not exist"),
    ],
)
def test_wrong_option_values(refused, options, words):
    assert words in refused(*options)


def test_a_recipe_that_is_a_picture(refused, source):
    assert "cannot be read as text" in refused("--config", str(source / "s1.png"))


def test_a_model_that_is_not_there(refused, tmp_path):
    assert "no folder and no hub id" in refused(model=tmp_path / "no" / "such" / "model")


def test_a_model_folder_without_weights(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(model=tmp_path / "empty")


def test_a_dataset_that_is_not_there(refused, tmp_path):
    assert "nowhere" in refused(data=tmp_path / "nowhere")


def test_a_zero_byte_parquet(refused, dataset):
    next((dataset / "data").glob("train*.parquet")).write_bytes(b"")
    assert "parquet" in refused()


def test_a_run_folder_in_use(refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.yaml").write_text("model: m\ndata: d\n")
    assert "holds a run already" in refused()


def test_a_run_folder_that_is_a_file(refused, tmp_path):
    (tmp_path / "run").write_text("")
    assert "is a file" in refused()


def test_a_full_disk_in_the_middle_keeps_the_last_checkpoint(
    model_folder,  # noqa: F811
    dataset,
    tmp_path,
    capsys,
    monkeypatch,
):
    import ocrsmith.model.weights as weights

    real, writes = weights.write_safetensors, []

    def filling_up(file: Path, tensors: list) -> None:
        writes.append(file)
        if len(writes) > 2:  # best/ and checkpoint-1 were written
            raise OSError(28, "No space left on device", str(file))
        real(file, tensors)

    monkeypatch.setattr(weights, "write_safetensors", filling_up)
    out = tmp_path / "run"
    options = [
        "--max-steps",
        "3",
        "--eval-every",
        "1",
        "--device",
        "cpu",
        "--batch-size",
        "2",
        "--accumulation",
        "1",
    ]
    assert main(["train", "--model", str(model_folder), "--data", str(dataset), "-o", str(out), *options]) == 2
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["checkpoint-1"]
    assert not (out / "adapter").exists()


SMALL_DISK = """
import resource, signal, sys, torch
from ocrsmith.cli.main import main
real = torch.save
def save(value, path, *args, **kwargs):  # the optimiser's state is the largest file of a checkpoint
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # a write beyond it fails, as on a full disk
    real(value, path, *args, **kwargs)
torch.save = save
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_fills_up_under_the_optimisers_state_is_told(model_folder, dataset, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    command = ["train", "--model", str(model_folder), "--data", str(dataset), "-o", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, *command, "--max-steps", "1", "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert "The disk is full: No space left on device." in done.stderr
    assert "Traceback" not in done.stderr
    assert list((out / "checkpoints").iterdir()) == []


def test_a_dataset_with_one_sample(model_folder, source, tmp_path, capsys):  # noqa: F811
    (source / "one.md").write_text("s1.png\t37\n")
    command = ["data", "build", str(source / "one.md"), "-o", str(tmp_path / "one"), "--splits", "100/0/0"]
    assert main(command) == 0
    base = ["train", "--model", str(model_folder), "--data", str(tmp_path / "one"), "-o", str(tmp_path / "run")]
    assert main([*base, "--max-steps", "1", "--device", "cpu"]) == 0
    err = capsys.readouterr().err
    assert "Only 1 sample:" in err
    assert "No validation samples" in err


def test_errors_are_json_when_asked_for(model_folder, tmp_path, capsys):  # noqa: F811
    base = [
        "train",
        "--model",
        str(model_folder),
        "--data",
        str(tmp_path / "nowhere"),
        "-o",
        str(tmp_path / "run"),
    ]
    assert main([*base, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2
