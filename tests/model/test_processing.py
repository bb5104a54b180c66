"""The processor: sequences, labels, batches, hub folders, and one code path for training and inference."""

import json
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ocrsmith.errors import ImageError, InputError, OutputError, SettingsError
from ocrsmith.images.resize import MODES
from ocrsmith.model.processing import IGNORE, SETTINGS_FILE, OcrProcessor, ProcessingSettings
from ocrsmith.text.prompts import FREE_OCR, PROMPTS

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
LAYOUT = ["<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<td>", "</td>", "<tr>", "</tr>"]
ADDED = [
    ("<｜fim▁hole｜>", False),
    ("<｜User｜>", False),
    ("<|EOT|>", True),
    ("<image>", True),
    ("<|grounding|>", True),
    *((word, True) for word in LAYOUT),
    ("<|User|>", True),
]


def byte_tokenizer(base_size: int, added: list[tuple[str, bool]]) -> Tokenizer:
    """Byte-level BPE with one merge: control tokens, bytes, unused tokens up to `base_size`, added tokens."""
    words = [BOS, EOS, PAD, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Fr"]
    words += [f"unused {number}" for number in range(base_size - len(words))]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [("F", "r")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in (BOS, EOS, PAD)])
    for word, special in added:
        token = AddedToken(word, special=special, normalized=False)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(300, ADDED), bos_token=BOS, eos_token=EOS, pad_token=PAD
    )


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory: pytest.TempPathFactory, golden: Path) -> Path:
    """Like the original's folder: special tokens at their ids, foreign class names, code that must not run."""
    reference = json.loads((golden / "special_tokens.json").read_text(encoding="utf-8"))
    added = [(f"<｜place▁holder▁no▁{number}｜>", False) for number in range(800)]
    added += [(token["content"], token["special"]) for token in reference["tokens"]]
    folder = tmp_path_factory.mktemp("hub") / "DeepSeek-OCR"
    folder.mkdir()
    byte_tokenizer(128_000, added).save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "LlamaTokenizerFast",
        "auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]},
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": {"__type": "AddedToken", "content": BOS, "normalized": True},
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": None,
        "additional_special_tokens": ["<|User|>", "<|Assistant|>"],
        "added_tokens_decoder": {
            str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in reference["tokens"]
        },
        "model_max_length": 8192,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenization_evil.py").write_text("raise SystemExit('remote code was run')", encoding="utf-8")
    return folder


def processor_of(tokenizer: PreTrainedTokenizerFast, **values) -> OcrProcessor:
    return OcrProcessor(tokenizer, ProcessingSettings(**values))


def page(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def run_lengths(ids: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for token in ids:
        if runs and runs[-1][0] == token:
            runs[-1][1] += 1
        else:
            runs.append([token, 1])
    return runs


class TestOneCodePath:
    """What training sees is what inference feeds, in every mode."""

    PAGES = ((90, 60), (1300, 500), (641, 1500))

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("prompt", [*PROMPTS.values(), "读 <image> bitte: "])
    def test_tokens_and_pixels_are_equal(self, tokenizer, mode: str, prompt: str) -> None:
        processor = processor_of(tokenizer, mode=mode)
        image = page(*self.PAGES[len(prompt) % 3])
        for text in ("Rechnung 12", " leading space", "第一行\n第二行", ""):
            trained, asked = processor.encode([image], prompt, text), processor.encode([image], prompt)
            length = len(asked.input_ids)
            assert asked.labels is None
            assert trained.input_ids[:length] == asked.input_ids
            for seen, fed in zip(trained.views, asked.views, strict=True):
                np.testing.assert_array_equal(seen.global_view, fed.global_view)
                np.testing.assert_array_equal(seen.tiles, fed.tiles)
            answer = trained.input_ids[length:]
            # nothing between prompt and text, nothing between text and eos, nothing after it
            assert answer[-1] == processor.tokens.eos
            assert processor.decode(answer[:-1]) == text
            assert answer[:-1] == tokenizer.encode(text, add_special_tokens=False)
            assert trained.labels == [IGNORE] * length + answer

    @pytest.mark.parametrize("mode", MODES)
    def test_collated_prompts_are_equal(self, tokenizer, mode: str) -> None:
        processor = processor_of(tokenizer, mode=mode)
        pages = [page(*size) for size in self.PAGES]
        trained = processor.collate([processor.encode([p], text="abc") for p in pages])
        asked = processor.collate([processor.encode([p]) for p in pages], padding_side="left")
        assert trained["image_layouts"] == asked["image_layouts"]
        for size, views in trained["views"].items():
            assert torch.equal(views, asked["views"][size])
        for row in range(len(pages)):
            prompt = asked["input_ids"][row][asked["attention_mask"][row].bool()]
            assert torch.equal(trained["input_ids"][row][: len(prompt)], prompt)

    def test_path_bytes_and_image_are_equal(self, tokenizer, tmp_path: Path) -> None:
        processor = processor_of(tokenizer, mode="base")
        path = tmp_path / "page.png"
        page().save(path)
        views = [processor.encode([s]).views[0].global_view for s in (path, path.read_bytes(), page())]
        np.testing.assert_array_equal(views[0], views[1])
        np.testing.assert_array_equal(views[0], views[2])


class TestSequence:
    def test_layout_by_hand(self, tokenizer) -> None:
        processor = processor_of(tokenizer, mode="tiny")
        ids = processor.encode([page()], "a<image>b", text="c").input_ids
        a, b, c, image = (tokenizer.convert_tokens_to_ids(token) for token in ("a", "b", "c", "<image>"))
        assert run_lengths(ids) == [
            [0, 1],
            [a, 1],
            [image, 73],
            [b, 1],
            [c, 1],
            [1, 1],
        ]

    def test_white_space_around_the_prompt_is_cut(self, tokenizer) -> None:
        processor = processor_of(tokenizer, mode="tiny")
        expected = processor.encode([page()], FREE_OCR).input_ids
        assert processor.encode([page()], f"  {FREE_OCR} \n").input_ids == expected
        assert processor.encode([page()]).input_ids == expected

    def test_several_images(self, tokenizer) -> None:
        processor = processor_of(tokenizer, mode="gundam")
        encoded = processor.encode([page(90, 60), page(1300, 640)], "<image><image>\nRead both.")
        assert [view.num_tokens for view in encoded.views] == [273, 273 + 10 * 21]
        assert encoded.num_image_tokens == encoded.input_ids.count(processor.tokens.image) == 756

    def test_text_alone(self, tokenizer) -> None:
        processor = processor_of(tokenizer)
        assert processor.encode([], "Say yes.", "yes").views == []
        assert processor.collate([processor.encode([], "Say yes.", "yes")])["views"] == {}

    @pytest.mark.parametrize("mode", MODES)
    def test_count_tokens_foretells_the_length(self, tokenizer, mode: str) -> None:
        processor = processor_of(tokenizer, mode=mode, max_tiles=6)
        for size in ((90, 60), (2000, 700)):
            counted = processor.count_tokens([size], text="<td>Fr</td>")
            assert counted == processor.encode([page(*size)], text="<td>Fr</td>").num_tokens

    def test_tile_limit_is_kept(self, tokenizer) -> None:
        image = page(2000, 2000)
        grids = [
            processor_of(tokenizer, max_tiles=most).encode([image]).views[0].layout[2:] for most in (9, 6, 3)
        ]
        assert grids[:2] == [(3, 3), (2, 2)]
        assert grids[2] in ((2, 1), (1, 2))

    def test_alpha_setting(self, tokenizer) -> None:
        clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
        for alpha, value in (("white", 255), ("drop", 0)):
            view = processor_of(tokenizer, mode="tiny", alpha=alpha).encode([clear]).views[0].global_view
            assert (view == value).all()


class TestTextIsData:
    """Words for control tokens in a text never become control tokens."""

    @pytest.mark.parametrize("word", LAYOUT)
    def test_layout_words_become_their_tokens(self, tokenizer, word: str) -> None:
        processor = processor_of(tokenizer, mode="tiny")
        answer = processor.tokens.encode_answer(f"a{word}b")
        assert answer[1] == tokenizer.convert_tokens_to_ids(word)
        assert len(answer) == 3
        assert processor.decode(answer) == f"a{word}b"

    @pytest.mark.parametrize(
        "word", [BOS, EOS, PAD, "<|EOT|>", "<|User|>", "<｜User｜>", "<｜fim▁hole｜>", "<|grounding|>"]
    )
    def test_other_words_are_spelled_out(self, tokenizer, word: str) -> None:
        processor = processor_of(tokenizer, mode="tiny")
        text = f"see {word} here <td>1</td>"
        answer = processor.tokens.encode_answer(text)
        assert tokenizer.convert_tokens_to_ids(word) not in answer
        assert tokenizer.convert_tokens_to_ids("<td>") in answer
        assert processor.decode(answer) == text

    def test_control_words_in_a_prompt_are_spelled_out(self, tokenizer) -> None:
        processor = processor_of(tokenizer, mode="tiny")
        ids = processor.encode([page()], f"<image>{EOS}{PAD}{BOS}<|grounding|>go").input_ids
        assert ids.count(processor.tokens.bos) == 1
        assert processor.tokens.eos not in ids
        assert processor.tokens.pad not in ids
        assert tokenizer.convert_tokens_to_ids("<|grounding|>") in ids

    def test_image_word_in_a_text_is_refused(self, tokenizer) -> None:
        with pytest.raises(InputError, match="The text contains <image>"):
            processor_of(tokenizer, mode="tiny").encode([page()], text="an <image> tag")

    @settings(max_examples=200)
    @given(
        st.lists(
            st.sampled_from([BOS, EOS, PAD, "<td>", "<|ref|>", "<|EOT|>", "<", "image>"]) | st.text(max_size=4)
        )
    )
    def test_any_text_survives_the_round_trip(self, tokenizer, parts: list[str]) -> None:
        text = "".join(parts).encode("utf-8", "ignore").decode()
        tokens = processor_of(tokenizer, mode="tiny").tokens
        if "<image>" in text:
            return
        ids = tokens.encode_answer(text)
        assert tokens.decode(ids) == text
        assert not {tokens.bos, tokens.eos, tokens.pad, tokens.image} & set(ids)

    def test_decoding_leaves_out_what_is_no_content(self, tokenizer) -> None:
        processor = processor_of(tokenizer)
        tokens = processor.tokens
        ids = [
            tokens.bos,
            *tokens.encode_answer("<td>x</td>"),
            100_000,
            IGNORE,
            tokens.eos,
            tokens.pad,
            tokens.image,
        ]
        assert processor.decode(ids) == "<td>x</td>"
        assert processor.decode(torch.tensor(ids)) == "<td>x</td>"
        assert processor.decode(ids, skip_special_tokens=False) == f"{BOS}<td>x</td>{EOS}{PAD}<image>"


class TestRefusals:
    @pytest.mark.parametrize(
        ("images", "prompt"), [(1, "no mark"), (0, FREE_OCR), (2, FREE_OCR), (1, "<image><image>")]
    )
    def test_images_must_match_the_prompt(self, tokenizer, images: int, prompt: str) -> None:
        with pytest.raises(InputError, match=f"there are {images} images"):
            processor_of(tokenizer, mode="tiny").encode([page()] * images, prompt)

    def test_length_limit(self, tokenizer) -> None:
        # bos 1, image 73, "\nFree OCR." 9 (newline, Fr, e, e, space, O, C, R, point), so 83; answer and eos
        processor = processor_of(tokenizer, mode="tiny", max_length=86)
        assert processor.encode([page()], text="ab").num_tokens == 86
        with pytest.raises(
            InputError, match=r"takes 87 tokens \(83 image and prompt, 4 text\); the limit is 86"
        ):
            processor.encode([page()], text="abc")
        with pytest.raises(InputError, match="leave no room for an answer"):
            processor_of(tokenizer, mode="tiny", max_length=83).encode([page()])

    def test_image_errors_come_through(self, tokenizer, tmp_path: Path) -> None:
        processor = processor_of(tokenizer, mode="tiny")
        with pytest.raises(ImageError, match="empty"):
            processor.encode([b""])
        with pytest.raises(ImageError, match="does not exist"):
            processor.encode([tmp_path / "gone.png"])
        with pytest.raises(ImageError, match="0×5"):
            processor.encode([Image.new("RGB", (0, 5))])

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"mode": "huge"}, "mode = 'huge'"),
            ({"max_tiles": 0}, "max_tiles = 0"),
            ({"min_tiles": 5, "max_tiles": 4}, "min_tiles = 5 is above max_tiles = 4"),
            ({"alpha": "black"}, "alpha = 'black'"),
            ({"prompt": "Free OCR."}, "has no <image>"),
            ({"tiles": 9}, "Unknown option 'tiles'"),
        ],
    )
    def test_settings(self, values: dict, message: str) -> None:
        with pytest.raises(SettingsError) as caught:
            ProcessingSettings.from_values(values)
        assert message in str(caught.value)

    def test_prompt_by_name(self) -> None:
        assert ProcessingSettings(prompt="markdown").prompt == PROMPTS["markdown"]

    def test_foreign_tokenizer(self) -> None:
        foreign = PreTrainedTokenizerFast(
            tokenizer_object=byte_tokenizer(300, []), bos_token=BOS, eos_token=EOS, pad_token=PAD
        )
        with pytest.raises(InputError, match="no image token '<image>'"):
            OcrProcessor(foreign)


class TestCollate:
    @pytest.mark.parametrize("side", ["right", "left"])
    def test_padding_and_label_rows(self, tokenizer, side: str) -> None:
        processor = processor_of(tokenizer, mode="tiny")
        encoded = [processor.encode([page()], text=text) for text in ("ab", "abcdef", "")]
        batch = processor.collate(encoded, padding_side=side)
        length = max(sample.num_tokens for sample in encoded)
        ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
        assert ids.shape == mask.shape == labels.shape == (3, length)
        assert {t.dtype for t in (ids, mask, labels, batch["label_rows"])} == {torch.int64}
        for row, sample in enumerate(encoded):
            real = slice(0, sample.num_tokens) if side == "right" else slice(length - sample.num_tokens, length)
            assert ids[row, real].tolist() == sample.input_ids
            assert labels[row, real].tolist() == sample.labels
            assert mask[row].sum() == sample.num_tokens
            assert mask[row, real].all()
            assert (ids[row][mask[row] == 0] == processor.tokens.pad).all()
            assert (labels[row][mask[row] == 0] == IGNORE).all()
        # by definition: row t predicts token t + 1
        rows = [b * length + t for b in range(3) for t in range(length - 1) if labels[b, t + 1] != IGNORE]
        assert batch["label_rows"].tolist() == rows
        learned = labels.flatten()[batch["label_rows"] + 1]
        assert learned.tolist() == [label for s in encoded for label in s.labels if label != IGNORE]

    def test_labels_only_if_all_have_them(self, tokenizer) -> None:
        processor = processor_of(tokenizer, mode="tiny")
        batch = processor.collate([processor.encode([page()], text="a"), processor.encode([page()])])
        assert "labels" not in batch
        assert "label_rows" not in batch

    def test_views_by_size_tiles_before_global(self, tokenizer) -> None:
        processor = processor_of(tokenizer, mode="gundam")
        small, wide, tall = page(90, 60, 1), page(1300, 600, 2), page(600, 1900, 3)
        first = processor.encode([small, wide], "<image><image>")
        second = processor.encode([tall])
        batch = processor.collate([first, second])
        assert batch["image_layouts"] == [(1024, 0, 0, 0), (1024, 640, 2, 1), (1024, 640, 1, 3)]
        assert all(type(value) is int for layout in batch["image_layouts"] for value in layout)
        views = batch["views"]
        assert {size: (view.shape, view.dtype) for size, view in views.items()} == {
            1024: ((3, 1024, 1024, 3), torch.uint8),
            640: ((5, 640, 640, 3), torch.uint8),
        }
        in_order = [*first.views, *second.views]
        np.testing.assert_array_equal(views[1024].numpy(), np.stack([v.global_view for v in in_order]))
        np.testing.assert_array_equal(views[640].numpy(), np.concatenate([v.tiles for v in in_order[1:]]))

    def test_modes_may_be_mixed(self, tokenizer) -> None:
        parts = [
            processor_of(tokenizer, mode=mode).encode([page(900, 700)]) for mode in ("small", "gundam", "small")
        ]
        batch = processor_of(tokenizer).collate(parts)
        tiles = parts[1].views[0].tiles
        assert batch["views"][640].shape[0] == 2 + len(tiles)
        np.testing.assert_array_equal(batch["views"][640][1:-1].numpy(), tiles)
        np.testing.assert_array_equal(batch["views"][640][-1].numpy(), parts[2].views[0].global_view)


class TestFolders:
    def test_round_trip(self, tokenizer, tmp_path: Path) -> None:
        processor = processor_of(tokenizer, mode="base", max_tiles=6, prompt="markdown")
        processor.save_pretrained(tmp_path / "run")
        again = OcrProcessor.from_pretrained(tmp_path / "run")
        assert again.settings == processor.settings
        texts = ("<td>Fr</td>", "页 1")
        for text in texts:
            one, two = processor.encode([page()], text=text), again.encode([page()], text=text)
            assert one.input_ids == two.input_ids
        assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(
            [SETTINGS_FILE, "tokenizer.json", "tokenizer_config.json"]
        )

    def test_special_tokens_of_the_original(self, hub_folder: Path, golden: Path) -> None:
        reference = json.loads((golden / "special_tokens.json").read_text(encoding="utf-8"))
        processor = OcrProcessor.from_pretrained(hub_folder)
        assert processor.settings == ProcessingSettings()
        assert (processor.tokens.bos, processor.tokens.eos, processor.tokens.pad) == (0, 1, 2)
        assert processor.tokens.image == 128815
        found = {
            t["content"]: processor.tokenizer.convert_tokens_to_ids(t["content"]) for t in reference["tokens"]
        }
        assert found == {t["content"]: t["id"] for t in reference["tokens"]}
        ids = processor.tokens.encode_answer("<tr><td><|ref|>" + BOS)
        assert ids[:3] == [128823, 128821, 128816]
        assert max(ids[3:]) < 128000

    def test_reference_sequences(self, hub_folder: Path, golden: Path) -> None:
        """Bos and image runs of all recorded cases. The base vocabulary is another here, so text ids differ."""
        reference = json.loads((golden / "preprocess.json").read_text(encoding="utf-8"))
        tokenizer = OcrProcessor.from_pretrained(hub_folder).tokenizer
        sizes = {name: tuple(image["size_after_exif"]) for name, image in reference["images"].items()}
        for mode in MODES:
            processor = processor_of(tokenizer, mode=mode, alpha="drop")
            for case in (case for case in reference["cases"] if case["mode"] == mode):
                width, height = sizes[case["image"]]
                layout = case["layout"]
                image_run = [processor.tokens.image, case["num_image_tokens"]]
                assert layout["input_ids_rle"][:2] == [[processor.tokens.bos, 1], image_run]
                assert processor.count_image_tokens(width, height) == case["num_image_tokens"]
                if min(width, height) <= 100:  # the pixels have their own test
                    image = golden / "preprocess_images" / case["image"]
                    ids = processor.encode([image], reference["manifest"]["prompt"]).input_ids
                    assert run_lengths(ids)[:2] == layout["input_ids_rle"][:2]
                    assert processor.decode(ids) == layout["text_after_image"]

    def test_reference_prompt_handling(self, hub_folder: Path, golden: Path) -> None:
        reference = json.loads((golden / "preprocess.json").read_text(encoding="utf-8"))
        tokenizer = OcrProcessor.from_pretrained(hub_folder).tokenizer
        processor = processor_of(tokenizer, mode="tiny")
        for case in reference["prompt_handling"]:
            ids = processor.encode([page()], case["prompt"]).input_ids
            before, after = case["text_pieces_tokenised"]
            expected = [0, *tokenizer.encode(before, add_special_tokens=False), *[128815] * 73]
            assert ids == expected + tokenizer.encode(after, add_special_tokens=False), case["prompt"]

    def test_hub_round_trip_keeps_ids_and_bos(self, hub_folder: Path, tmp_path: Path) -> None:
        processor = OcrProcessor.from_pretrained(hub_folder)
        processor.save_pretrained(tmp_path)
        again = OcrProcessor.from_pretrained(tmp_path)
        assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        # tokenizer.json itself adds bos, for engines that read nothing else
        plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        assert plain.encode("a").ids[0] == 0
        assert not {"auto_map"} & set(
            json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
        )

    def test_tokens_listed_only_in_the_config(self, tmp_path: Path) -> None:
        byte_tokenizer(300, ADDED[:-1]).save(str(tmp_path / "tokenizer.json"))
        config = {"added_tokens_decoder": {"313": {"content": "<|User|>", "special": True}}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        assert OcrProcessor.from_pretrained(tmp_path).tokenizer.convert_tokens_to_ids("<|User|>") == 313
        config["added_tokens_decoder"]["7"] = config["added_tokens_decoder"].pop("313")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(InputError, match=r"contradict each other: '<\|User\|>' is 313"):
            OcrProcessor.from_pretrained(tmp_path)

    def test_missing_and_damaged_files(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such model folder"):
            OcrProcessor.from_pretrained(tmp_path / "gone")
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(InputError, match=r"no tokenizer\.json; it holds config\.json"):
            OcrProcessor.from_pretrained(tmp_path)
        path = tmp_path / "tokenizer.json"
        for content, message in (
            ("{", "cannot be read"),
            ("version https://git-lfs.github.com/spec/v1", "LFS"),
        ):
            path.write_text(content)
            with pytest.raises(InputError, match=message) as caught:
                OcrProcessor.from_pretrained(tmp_path)
            assert caught.value.place == str(path)
        byte_tokenizer(300, ADDED).save(str(path))
        OcrProcessor.from_pretrained(tmp_path)  # the other files have defaults
        (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
        with pytest.raises(InputError, match="lacks bos_token '<s>'"):
            OcrProcessor.from_pretrained(tmp_path)
        (tmp_path / "tokenizer_config.json").write_text("[")
        with pytest.raises(InputError, match=r"tokenizer_config\.json cannot be read"):
            OcrProcessor.from_pretrained(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"), [("{", "cannot be read"), ("[]", "no JSON object"), ('{"mode": 5}', "mode = 5")]
    )
    def test_damaged_settings(self, tokenizer, tmp_path: Path, content: str, message: str) -> None:
        processor_of(tokenizer).save_pretrained(tmp_path)
        (tmp_path / SETTINGS_FILE).write_text(content)
        with pytest.raises(SettingsError, match=message) as caught:
            OcrProcessor.from_pretrained(tmp_path)
        assert caught.value.place == str(tmp_path / SETTINGS_FILE)

    def test_unwritable_folder(self, tokenizer, tmp_path: Path) -> None:
        target = tmp_path / "file"
        target.write_text("kept")
        with pytest.raises(OutputError, match="'file' cannot be written"):
            processor_of(tokenizer).save_pretrained(target)
        assert target.read_text() == "kept"


def test_label_positions_follow_the_prompt(tokenizer) -> None:
    """The first learned position is the last of the prompt: it predicts the first token of the answer."""
    processor = processor_of(tokenizer, mode="tiny")
    asked = processor.encode([page()]).num_tokens
    rows = processor.collate([processor.encode([page()], text="abc")])["label_rows"].tolist()
    assert rows[0] == asked - 1
    assert all(after - before == 1 for before, after in pairwise(rows))
    assert len(rows) == 4


def test_a_copy_for_a_worker_process_gives_the_same(tokenizer) -> None:
    processor = processor_of(tokenizer, mode="tiny")
    text = f"<td>{EOS}</td>"
    expected = processor.encode([page()], text=text).input_ids
    assert deepcopy(processor).encode([page()], text=text).input_ids == expected
