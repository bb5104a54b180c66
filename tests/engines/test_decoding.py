"""Loop control against its definition, and decoding settings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.engines.decoding import DecodingSettings, NGramHistory, NoRepeatNGramProcessor, is_looping
from ocrsmith.errors import SettingsError

VOCABULARY = 256


def forbidden(ids: list[int], size: int, window: int) -> set[int]:
    """The definition, straight: rescans the window."""
    if size == 1:
        return set()
    starts = range(max(0, len(ids) - window), len(ids) - size + 1)
    prefix = ids[len(ids) - size + 1 :]
    return {ids[s + size - 1] for s in starts if ids[s : s + size - 1] == prefix}


def step(processor: NoRepeatNGramProcessor, rows: list[list[int]]) -> list[list[int]]:
    """Forbidden ids of each row."""
    length = len(rows[0])
    ids = torch.tensor(rows, dtype=torch.long).reshape(len(rows), length)
    scores = processor(ids, torch.zeros(len(rows), VOCABULARY))
    return [torch.isneginf(row).nonzero().flatten().tolist() for row in scores]


class TestDefinition:
    def test_reference_cases(self, golden: Path) -> None:
        reference = json.loads((golden / "ngram.json").read_text(encoding="utf-8"))
        assert len(reference["cases"]) == 48
        for case in reference["cases"]:
            options = case["ngram_size"], case["window_size"], case["whitelist_token_ids"]
            ids = case["output_ids"]
            assert step(NoRepeatNGramProcessor(*options), [ids]) == [case["banned"]], case["name"]
            followed = NoRepeatNGramProcessor(*options)
            for length in range(len(ids) + 1):
                banned = step(followed, [ids[:length]])
            assert banned == [case["banned"]], case["name"]
        for wrong in reference["manifest"]["constructor_validation"]:
            with pytest.raises(ValueError, match="positive whole number"):
                NoRepeatNGramProcessor(wrong["ngram_size"], wrong["window_size"])

    @pytest.mark.parametrize(
        ("ids", "size", "window", "banned"),
        [
            ([], 3, 10, []),
            ([5, 5], 3, 10, []),
            ([7, 7, 7], 3, 10, [7]),
            ([1, 2, 3, 1, 2, 4, 1, 2], 3, 100, [3, 4]),
            ([9, 1, 2, 3, 8, 1, 2], 3, 6, [3]),
            ([9, 1, 2, 3, 8, 1, 2], 3, 5, []),  # the earlier 1 2 3 starts just outside the window
            ([4, 4, 4], 1, 10, []),
        ],
    )
    def test_by_hand(self, ids: list[int], size: int, window: int, banned: list[int]) -> None:
        assert step(NoRepeatNGramProcessor(size, window), [ids]) == [banned]

    @given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 6), st.integers(1, 30))
    def test_each_step_is_what_a_rescan_finds(self, ids: list[int], size: int, window: int) -> None:
        history = NGramHistory(size, window)
        for length in range(len(ids) + 1):
            assert set(history.banned()) == forbidden(ids[:length], size, window)
            if length < len(ids):
                history.append(ids[length])

    def test_whitelist_is_never_forbidden(self) -> None:
        assert step(NoRepeatNGramProcessor(3, 100, [3]), [[1, 2, 3, 1, 2, 4, 1, 2]]) == [[4]]

    def test_prompt_does_not_count(self) -> None:
        prompt = [1, 2, 3, 1, 2, 3]
        assert step(NoRepeatNGramProcessor(3, 90, prompt_length=6), [[*prompt, 1, 2]]) == [[]]
        assert step(NoRepeatNGramProcessor(3, 90, prompt_length=6), [[*prompt, 1, 2, 3, 1, 2]]) == [[3]]

    def test_scores_are_not_changed_in_place(self) -> None:
        scores = torch.zeros(1, VOCABULARY)
        changed = NoRepeatNGramProcessor(2, 10)(torch.tensor([[1, 2, 1]]), scores)
        assert torch.isneginf(changed[0, 2])
        assert torch.isfinite(scores).all()


class TestBatches:
    @given(st.data())
    def test_rows_may_finish_move_and_restart(self, data: st.DataObject) -> None:
        processor = NoRepeatNGramProcessor(3, 12)
        tokens = st.integers(0, 2)
        rows = [[] for _ in range(data.draw(st.integers(1, 4)))]
        for _ in range(data.draw(st.integers(1, 30))):
            rows = [[*row, data.draw(tokens)] for row in rows]
            match data.draw(st.sampled_from([*["go on"] * 3, "drop", "reorder", "restart", "again"])):
                case "drop" if len(rows) > 1:
                    rows.pop(data.draw(st.integers(0, len(rows) - 1)))
                case "reorder":
                    rows = data.draw(st.permutations(rows))
                case "restart":
                    length = len(rows[0])
                    rows = [data.draw(st.lists(tokens, min_size=length, max_size=length)) for _ in rows]
                case "again":
                    step(processor, rows)
            assert [set(row) for row in step(processor, rows)] == [forbidden(row, 3, 12) for row in rows]

    def test_a_reused_buffer_is_noticed(self) -> None:
        processor = NoRepeatNGramProcessor(2, 10)
        buffer = torch.tensor([[1, 2, 1, 0]])
        scores = torch.zeros(1, VOCABULARY)
        processor(buffer[:, :3], scores)
        buffer[0, :3] = torch.tensor([3, 4, 3])
        buffer[0, 3] = 3
        assert torch.isneginf(processor(buffer, scores)[0]).nonzero().flatten().tolist() == [3, 4]


def test_generate_keeps_the_rule() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    prompt = torch.tensor([[1, 5, 6, 7], [1, 9, 9, 9]])
    options = {"max_new_tokens": 60, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    free = model.generate(prompt, **options)[:, 4:]
    controlled = model.generate(
        prompt, logits_processor=[NoRepeatNGramProcessor(3, 20, prompt_length=4)], **options
    )[:, 4:]

    def broken(rows: torch.Tensor) -> bool:
        return any(
            row[end] in forbidden(row[:end], 3, 20) for row in rows.tolist() for end in range(3, len(row))
        )

    assert broken(free)
    assert not broken(controlled)


class TestSettings:
    def test_defaults_are_those_of_the_serving_recipe(self) -> None:
        settings = DecodingSettings()
        assert settings.model_dump() == {
            "max_new_tokens": 8192,
            "ngram_size": 30,
            "ngram_window": 90,
            "ngram_whitelist": ("<td>", "</td>"),
        }

    def test_context_caps_the_answer(self) -> None:
        assert DecodingSettings().token_limit(prompt_tokens=903, context=8192) == 7289
        assert DecodingSettings(max_new_tokens=100).token_limit(prompt_tokens=903, context=8192) == 100
        assert DecodingSettings().token_limit(prompt_tokens=9000, context=8192) == 0

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"max_new_tokens": 0}, "max_new_tokens = 0"),
            ({"ngram_size": -1}, "ngram_size = -1"),
            ({"ngram_window": "wide"}, "ngram_window = 'wide'"),
            ({"ngram_size": 91}, "nothing would ever be forbidden"),
            ({"temperature": 0.5}, "Unknown option 'temperature'"),
        ],
    )
    def test_wrong_values_are_named(self, values: dict, message: str) -> None:
        with pytest.raises(SettingsError) as caught:
            DecodingSettings.from_values(values)
        assert message in str(caught.value)

    def test_whitelist_is_looked_up(self) -> None:
        class Words:
            def get_vocab(self) -> dict[str, int]:
                return {"<td>": 21, "</td>": 22}

        processor = DecodingSettings().loop_control(Words(), prompt_length=7)
        assert processor is not None
        assert processor.whitelist == {21, 22}
        assert (processor.ngram_size, processor.window_size, processor.prompt_length) == (30, 90, 7)
        assert DecodingSettings(ngram_size=0).loop_control(Words()) is None
        with pytest.raises(SettingsError, match="'<th>'"):
            DecodingSettings(ngram_whitelist=("<td>", "<th>")).loop_control(Words())

    def test_need_no_torch(self) -> None:
        code = "import sys, ocrsmith.engines.decoding; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestLooping:
    LINE = "The harbour master wrote on 3 May 1893 that the ship Adelaide had left with 412 casks of oil. "

    @pytest.mark.parametrize(
        "sequence",
        [
            [5] * 64,
            [1, 2, 3] * 30,
            [*range(100), *([7, 8, 9, 10] * 20)],
            "۱۲۳" * 40,
            "real text first, then " + "no no " * 30,
            LINE * 4,
        ],
    )
    def test_repeated_ends_are_found(self, sequence: list[int] | str) -> None:
        assert is_looping(sequence)

    @pytest.mark.parametrize(
        "sequence",
        [
            [],
            "",
            [5] * 63,
            "a" * 63,
            list(range(600)),
            LINE,
            LINE * 2,
            "x" * 500 + LINE,
            "".join(f"{i * 7919 % 10007}\n" for i in range(60)),
        ],
    )
    def test_other_ends_are_not(self, sequence: list[int] | str) -> None:
        assert not is_looping(sequence)

    def test_a_loop_broken_by_loop_control_is_still_one(self) -> None:
        ids: list[int] = []
        history = NGramHistory(30, 90)
        fresh = iter(range(1000, 2000))
        for place in range(300):
            token = place % 3
            ids.append(next(fresh) if token in history.banned() else token)
            history.append(ids[-1])
        assert max(ids) >= 1000
        assert is_looping(ids)

    def test_lone_surrogates_are_survived(self) -> None:
        assert is_looping("\ud800" * 100)

    @given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.lists(st.integers(0, 50), max_size=40))
    def test_any_unit_said_often_enough(self, unit: list[int], before: list[int]) -> None:
        assert is_looping(before + unit * (64 // len(unit) + 3))
