"""Copies and near copies: found where there are some, and only there, however crowded a hash is."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.similar import (
    CROWD,
    NEAR_IMAGE,
    NEAR_IMAGE_SHORT,
    REPEATED,
    TraitTable,
    bits_apart,
    components,
    find_similar,
    without_repeated,
)
from ocrsmith.datasets.traits import PLAIN, Traits, comparable, text_hash

_RANDOM = np.random.default_rng(7)


def number() -> int:
    return int(_RANDOM.integers(1, 2**63))


def traits(
    text: str, *, picture: int = 0, visual: int | None = None, file: int = 0, language: str = "en"
) -> Traits:
    """`picture` and `file` stand for pixels and bytes; 0: its own ones."""
    bare = comparable(text)
    pixels = picture or number()
    return Traits(
        image_digest=(file or number()).to_bytes(16, "little"),
        pixel_digest=pixels.to_bytes(16, "little"),
        visual_hash=number() if visual is None else visual,
        text_digest=hashlib.blake2b(bare.encode(), digest_size=16).digest(),
        text_hash=text_hash(bare),
        language=language,
        length=len(text),
    )


def flip(value: int, bits: int) -> int:
    for bit in range(bits):
        value ^= 1 << (bit * 7 % 64)
    return value


def found(samples: list[Traits]) -> list[tuple[int, int, str]]:
    table = TraitTable()
    for sample in samples:
        table.add(sample)
    return list(find_similar(table))


TEXT = "the harbour dues were raised by the council"
OTHER = "a ship of the name of Hesperus has not been seen"
LONG_TEXT = "In witness whereof the parties have set their hands and seals on the day first above written."


def test_nothing_in_common() -> None:
    assert found([]) == []
    assert found([traits(TEXT)]) == []
    assert found([traits(TEXT), traits(OTHER), traits("third")]) == []


def test_the_same_file_and_the_same_pixels_whatever_the_text() -> None:
    samples = [
        traits(TEXT, picture=5, file=1),
        traits(OTHER, picture=5, file=1),
        traits(TEXT, picture=5, file=2),
        traits(OTHER),
    ]
    assert found(samples) == [(0, 1, "bytes"), (0, 2, "pixels")]


def test_a_near_picture_needs_the_same_text() -> None:
    visual = number()
    samples = [traits(TEXT, visual=visual), traits(TEXT, visual=flip(visual, NEAR_IMAGE))]
    assert found(samples) == [(0, 1, "near")]
    assert found([samples[0], traits(TEXT, visual=flip(visual, NEAR_IMAGE + 1))]) == []
    assert found([samples[0], traits(OTHER, visual=visual)]) == []


def test_a_short_text_needs_a_nearer_picture() -> None:
    visual = number()
    for bits, expected in ((NEAR_IMAGE_SHORT, [(0, 1, "near")]), (NEAR_IMAGE_SHORT + 1, [])):
        assert found([traits("Total", visual=visual), traits("Total", visual=flip(visual, bits))]) == expected


def test_a_near_picture_with_a_mended_label() -> None:
    visual = number()
    samples = [traits(TEXT, visual=visual), traits(TEXT.replace("dues", "duos"), visual=flip(visual, 4))]
    assert found(samples) == [(0, 1, "near")]


def test_forms_of_one_kind_are_no_copies() -> None:
    """The picture and most of the words are the same; the numbers are not. A few may seem alike by chance."""
    visual, table = number(), TraitTable()
    for form in range(1000, 2000):
        table.add(traits(f"Invoice number {form}, total {form * 7}.50 euro", visual=visual))
    pairs = find_similar(table)
    assert np.bincount(components(1000, pairs.first, pairs.second)).max() <= CROWD


def test_a_picture_with_many_near_texts_is_a_form() -> None:
    visual = number()
    words = ["oak", "elm", "ash", "fir", "yew", "box", "bay", "fig"]
    text = (
        "Whoever finds this tree of the kind named here may take one leaf of it home: {}. Signed by all of us."
    )
    few = [traits(text.format(word), visual=visual) for word in words[:2]]
    many = [traits(text.format(word), visual=visual) for word in words]
    assert found(few) == [(0, 1, "near")]
    assert len(words) > CROWD
    assert found(many) == []


def test_a_long_text_again_is_a_new_scan() -> None:
    assert found([traits(LONG_TEXT), traits(LONG_TEXT.upper())]) == [(0, 1, "text")]
    assert found([traits(TEXT), traits(TEXT)]) == []
    assert found([traits("~" * 80, language="und"), traits("~" * 80, language="und")]) == []


def test_plain_pictures_prove_nothing() -> None:
    assert found([traits("text of image 1", visual=PLAIN), traits("text of image 1", visual=PLAIN)]) == []


def test_the_strongest_kind_counts() -> None:
    samples = [traits(LONG_TEXT, picture=3, visual=9, file=4) for _ in range(3)]
    assert found(samples) == [(0, 1, "bytes"), (0, 2, "bytes")]


def test_crowded_hashes_neither_blow_up_nor_hide_copies() -> None:
    """5,000 blank pages, 5,000 forms of one look, 5,000 times one word; and among them near copies."""
    table = TraitTable()
    for _ in range(5_000):
        table.add(traits("[blank]", picture=8, visual=PLAIN))
    for form in range(5_000):
        table.add(traits(f"{form * 7919 % 99991:05d} {form}", visual=12345))
    for _ in range(5_000):
        table.add(traits("Total"))
    visual = number()
    table.add(traits(TEXT, visual=visual))
    table.add(traits(TEXT, visual=flip(visual, 6)))
    pairs = find_similar(table)
    assert (15_000, 15_001, "near") in set(pairs)
    assert np.bincount(pairs.kind, minlength=4)[1] == 4_999
    assert len(pairs) < 5_500
    sizes = np.bincount(components(len(table), pairs.first, pairs.second))
    assert sorted(sizes)[-2] < 100


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_components_join_what_hangs_together(edges: list[tuple[int, int]]) -> None:
    expected = list(range(30))
    for _ in range(30):  # the plain way: least neighbour, again and again
        for left, right in edges:
            expected[left] = expected[right] = min(expected[left], expected[right])
    first = np.array([left for left, _ in edges], dtype=np.int64)
    second = np.array([right for _, right in edges], dtype=np.int64)
    assert components(30, first, second).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=20))
def test_bits_are_counted_as_python_counts_them(values: list[tuple[int, int]]) -> None:
    left, right = (np.array(column, dtype=np.uint64) for column in zip(*values, strict=True))
    assert bits_apart(left, right).tolist() == [(one ^ other).bit_count() for one, other in values]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 12)), min_size=2, max_size=30))
def test_near_copies_of_one_text_are_those_of_all_pairs(samples: list[tuple[int, int, int]]) -> None:
    """Against comparing all with all: one text, pictures at most so far apart. A chain may stand for a pair."""
    table, looks = TraitTable(), [number() for _ in range(4)]
    values = [(f"{TEXT} {text}x", flip(looks[look], bits)) for text, look, bits in samples]
    for text, visual in values:
        table.add(traits(text, visual=visual))
    pairs = find_similar(table)
    joined = components(len(values), pairs.first, pairs.second)
    for (left, one), (right, other) in combinations(enumerate(values), 2):
        if one[0] == other[0] and (one[1] ^ other[1]).bit_count() <= NEAR_IMAGE:
            assert joined[left] == joined[right]


def test_what_stands_in_many_documents_joins_none() -> None:
    table, documents = TraitTable(), []
    for document in range(REPEATED + 1):
        table.add(traits("Republic of Letters", picture=77, visual=6, file=8))
        table.add(traits(f"line of document {document} {number()}"))
        documents += [document, document]
    for _ in range(2):
        table.add(traits("twice", picture=78, visual=7, file=9))
        documents.append(documents[-1] + 1)
    pairs, repeated = without_repeated(find_similar(table), np.array(documents))
    assert list(pairs) == [(len(documents) - 2, len(documents) - 1, "bytes")]
    assert repeated.tolist() == list(range(0, 2 * REPEATED + 2, 2))
