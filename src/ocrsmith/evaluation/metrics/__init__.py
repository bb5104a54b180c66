"""Metrics: pure functions, strings in, numbers or a result dataclass out. No files, no engines."""

from ocrsmith.evaluation.metrics.boxes import BoxScore, iou, score_boxes, score_boxes_all
from ocrsmith.evaluation.metrics.cer import PageScore, cer, score_page
from ocrsmith.evaluation.metrics.documents import DocumentScore, score_document, score_documents
from ocrsmith.evaluation.metrics.fields import FieldScore, FieldsScore, parse_fields, score_fields
from ocrsmith.evaluation.metrics.lines import LineScores, score_lines
from ocrsmith.evaluation.metrics.overlap import (
    Overlap,
    bleu,
    chrf,
    rouge_l,
    rouge_ls,
    sentence_bleu,
    sentence_bleus,
    sentence_chrf,
    sentence_chrfs,
)
from ocrsmith.evaluation.metrics.tables import (
    CellScore,
    Table,
    parse_html_tables,
    parse_markdown_tables,
    score_cells,
    score_cells_all,
)
from ocrsmith.evaluation.metrics.teds import Teds, score_teds, score_teds_all
from ocrsmith.evaluation.metrics.wer import WordScore, exact, ned, score_words, score_words_all, wer, words

__all__ = [
    "BoxScore",
    "CellScore",
    "DocumentScore",
    "FieldScore",
    "FieldsScore",
    "LineScores",
    "Overlap",
    "PageScore",
    "Table",
    "Teds",
    "WordScore",
    "bleu",
    "cer",
    "chrf",
    "exact",
    "iou",
    "ned",
    "parse_fields",
    "parse_html_tables",
    "parse_markdown_tables",
    "rouge_l",
    "rouge_ls",
    "score_boxes",
    "score_boxes_all",
    "score_cells",
    "score_cells_all",
    "score_document",
    "score_documents",
    "score_fields",
    "score_lines",
    "score_page",
    "score_teds",
    "score_teds_all",
    "score_words",
    "score_words_all",
    "sentence_bleu",
    "sentence_bleus",
    "sentence_chrf",
    "sentence_chrfs",
    "wer",
    "words",
]
