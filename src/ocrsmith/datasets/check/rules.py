"""What is said of each kind of finding: how bad it is, its title, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""An error must be mended, a warning looked at; an info is worth knowing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is said of every finding of a code."""

    severity: Severity
    title: str
    mend: str


_AGAIN = "Build the dataset again from its sources: `ocrsmith data build` keeps copies in one split."
_BY_GROUP = "Build the dataset again from its sources with --group-by, so that whole documents stay together."

RULES = MappingProxyType(
    {
        # Images
        "unreadable_image": Rule(
            "error", "Images that cannot be opened", "Replace the files, and build the dataset again."
        ),
        "blank_image": Rule(
            "warning",
            "Images without any writing",
            "Look at them: a text that the image does not show teaches the model to invent. Remove them, or "
            "scan them again.",
        ),
        "letters_small": Rule(
            "warning",
            "Letters under 8 pixels in every resolution mode",
            "Cut these pages into parts (columns, halves, lines); no mode shows them large enough as they are.",
        ),
        "letters_small_in_image": Rule(
            "warning",
            "Letters under 8 pixels in the image itself",
            "Scan again with more dots per inch: enlarging does not bring back what the scan lost.",
        ),
        # Texts and tokens
        "empty_text": Rule("error", "Empty texts", "Write what the image says, or remove the samples."),
        "one_character": Rule(
            "info",
            "Texts of one character",
            "Look whether the rest was lost; if they are meant (page numbers), nothing is to be done.",
        ),
        "too_long": Rule(
            "error",
            "Longer than the model's context",
            "Cut the pages into parts: what does not fit is cut off in training.",
        ),
        "near_limit": Rule(
            "warning",
            "Take more than 90 % of the model's context",
            "Cut the pages into parts, or use a mode with fewer image tokens.",
        ),
        # Image against text
        "text_too_long": Rule(
            "warning",
            "Texts much longer than the writing in the image",
            "Compare image and text: likely the label of another image, or of the whole page for one line.",
        ),
        "text_too_short": Rule(
            "warning",
            "Texts much shorter than the writing in the image",
            "Compare image and text: likely the label of another image, or lines are missing from it.",
        ),
        "label_error": Rule(
            "warning",
            "The model confidently reads something else",
            "Review them, the first ones first: correct the label where the model is right.",
        ),
        # Copies
        "same_image_other_text": Rule(
            "error",
            "Same image, different texts",
            "Keep the right text of each image: at least one of them is wrong.",
        ),
        "repeated_sample": Rule(
            "warning",
            "Exact copies within a split",
            "Remove the copies, unless they are meant to count more.",
        ),
        "repeated_text": Rule(
            "info",
            "One text for many images",
            "Look whether it stands in all of these images. If it does (titles, page numbers), the model may "
            "learn to say it too often: keep fewer.",
        ),
        "leak_document": Rule("error", "Leak: samples of one document in two splits", _BY_GROUP),
        "leak_bytes": Rule("error", "Leak: the same image file in two splits", _AGAIN),
        "leak_pixels": Rule("error", "Leak: the same pixels in two splits", _AGAIN),
        "leak_near": Rule("error", "Leak: near copies of an image in two splits", _AGAIN),
        "leak_text": Rule("warning", "Leak: the same long text in two splits", _BY_GROUP),
        # Characters that no image shows, or that were lost
        "replacement": Rule(
            "error",
            "Replacement characters (U+FFFD): a letter was lost in reading the source",
            "Read the source in its own encoding (`data build --encoding`), and build the dataset again.",
        ),
        "control": Rule("error", "Control characters", "Remove them from the texts: no image shows them."),
        "carriage_return": Rule(
            "warning",
            "Carriage returns (Windows line ends)",
            "Replace \\r\\n by \\n: the model would learn both.",
        ),
        "unassigned": Rule(
            "error", "Codes that are no characters", "Correct the texts; often a wrong encoding is the cause."
        ),
        "private_use": Rule(
            "error",
            "Private-use characters, which mean something only in one font",
            "Replace them by the characters that are meant; PDF files without a proper text layer have them.",
        ),
        "zero_width": Rule(
            "warning", "Zero-width characters", "Remove them: no image shows them, but each counts as an error."
        ),
        "joiner_out_of_place": Rule(
            "warning",
            "Zero-width joiners where they join nothing",
            "Remove them at ends of words and beside spaces; within Persian words they are right.",
        ),
        "direction_mark": Rule(
            "warning",
            "Direction marks",
            "Remove them: no image shows them, and the order of the letters does not need them.",
        ),
        "soft_hyphen": Rule(
            "warning", "Soft hyphens", "Remove them, or write - where the image shows a hyphen."
        ),
        "odd_space": Rule(
            "warning",
            "No-break and other special spaces",
            "Replace them by plain spaces: an image does not show which space it is.",
        ),
        "surrounding_space": Rule(
            "warning",
            "White space at the ends of texts or lines",
            "Strip it: no image shows it, but each space counts as an error.",
        ),
        "double_space": Rule(
            "info",
            "Several spaces in a row",
            "If they set columns apart, keep them in all texts alike; else replace them by one.",
        ),
        # Look-alikes and forms
        "lookalike_letter": Rule(
            "warning",
            "Words with a look-alike letter of another script",
            "Replace the letter by that of the word's own script: the model cannot see the difference.",
        ),
        "lookalike_ideograph": Rule(
            "warning",
            "Katakana that look like Chinese characters, among such",
            "Replace them by the Chinese characters that are meant.",
        ),
        "compatibility_ideograph": Rule(
            "warning",
            "Radicals and compatibility forms instead of Chinese characters",
            "Normalise the texts (NFKC for these characters): they look the same and count as errors.",
        ),
        "presentation_form": Rule(
            "warning",
            "Arabic presentation forms instead of letters",
            "Normalise the texts with NFKC; they come from PDF files that store shapes instead of letters.",
        ),
        "ligature": Rule(
            "warning", "Ligatures (ﬁ, ﬂ …) as one character", "Write fi, fl …, in all texts alike."
        ),
        "half_width_katakana": Rule(
            "info", "Half-width Katakana", "Write full-width Katakana, unless the images show narrow ones."
        ),
        "mixed_digits": Rule(
            "warning",
            "Numbers with digits of two kinds",
            "Write each number with the digits that its image shows.",
        ),
        "arabic_persian_letters": Rule(
            "warning",
            "Arabic ي/ك and Persian ی/ک mixed",
            "Write one form in all texts of a language (Persian: ی ک): within words they look the same.",
        ),
        "arabic_persian_digits": Rule(
            "warning",
            "Arabic and Persian digits mixed",
            "Write one kind in all texts of a language: seven of the ten digits look the same.",
        ),
        "full_width": Rule(
            "warning",
            "Full-width letters or digits beside plain ones",
            "Write plain ones (ABC, 123) in all texts, unless the images clearly show both.",
        ),
        "mixed_punctuation": Rule(
            "info",
            "Full-width and plain punctuation mixed after Chinese characters",
            "Decide for one and write it in all texts alike: the model cannot tell which is wanted.",
        ),
        "alternative_signs": Rule(
            "info",
            "Signs that people type for one another",
            "Decide for one and write it in all texts alike, unless the images clearly show both.",
        ),
        "mixed_normal_forms": Rule(
            "warning",
            "Accents composed in some texts (NFC), separate in others",
            "Normalise all texts with NFC: the same letter has two spellings now.",
        ),
        "separate_accents": Rule(
            "info",
            "Accents as separate characters (not NFC)",
            "Normalise all texts with NFC, as most tools and tokenizers expect.",
        ),
        # The inventory as a whole
        "unseen_characters": Rule(
            "warning",
            "Characters in val or test that train never has",
            "Add training samples with them (`ocrsmith data synth` makes such), or expect errors there.",
        ),
        "rare_characters": Rule(
            "info",
            "Characters that occur once or twice",
            "Check that they are no typing errors; if they are right, more samples with them help.",
        ),
        "stray_script": Rule(
            "info",
            "A few letters of other scripts",
            "Look whether they are meant; single letters are often typing errors.",
        ),
    }
)
"""Every code with what is said of it, in the order of the report."""
