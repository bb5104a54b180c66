"""The language of a text, from its script, letters and common words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.text.language import UNKNOWN, guess_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", "und"),
        ("12.03.1984 — 17:30", "und"),
        ("~~~ ~~~ ~~~", "und"),
        ("The Surveyor reported on the harbour dues of that year", "en"),
        ("Vous pouvez m'envoyer la personne dont vous me parlez", "fr"),
        ("Der Bürgermeister hat die Rechnung nicht bezahlt", "de"),
        ("La casa de la que hablamos está en el centro", "es"),
        ("Il libro che abbiamo letto è molto bello della biblioteca", "it"),
        ("As informações não foram enviadas para o município", "pt"),
        ("Het boek dat wij hebben gelezen is niet van hem", "nl"),
        ("Memorandum", "und-Latn"),
        ("XK7-Q", "und-Latn"),
        ("铑泡胭释邑疫反隽寥缔", "zh"),
        ("E的S世界U0IlS9像S像界车Fe8", "zh"),
        ("これは日本語の文です", "ja"),
        ("東京都カラオケ", "ja"),
        ("한국어 문장입니다", "ko"),
        ("Это русский текст, который мы читаем", "ru"),
        ("Це український текст і його їжа", "uk"),
        ("پنج کتاب گران", "fa"),
        ("هذه المدرسة في القاهرة", "ar"),
        ("یہ اردو ہے اور ہم پڑھتے ہیں", "ur"),
        ("שלום עולם", "he"),
        ("สวัสดีชาวโลก", "th"),
        ("Αυτό είναι ελληνικό", "el"),
        ("यह हिन्दी है", "hi"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert guess_language(text) == language


@given(st.text(max_size=200))
def test_any_text_gets_a_tag(text: str) -> None:
    tag = guess_language(text)
    assert tag == UNKNOWN or tag[:2].islower() or tag.startswith("und-")


def test_real_pages(shared: Path) -> None:
    labels = shared / "data/tapus_alto/labels.tsv"
    if not labels.is_file():
        pytest.skip("needs ../shared/data/tapus_alto (French pages), which is not here")
    rows = [row.split("\t", 1) for row in labels.read_text(encoding="utf-8").splitlines()]
    pages = [text for path, text in rows if path.startswith("pages/")]
    found = [guess_language(text.replace("\\n", "\n")) for text in pages]
    assert set(found) <= {"fr", "und", "und-Latn"}  # some are all but `~~~`: not typewritten
    assert found.count("fr") > len(found) / 2
