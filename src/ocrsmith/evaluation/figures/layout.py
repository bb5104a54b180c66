"""Figures of Markdown documents, block by block, and of boxes."""

from __future__ import annotations

import numpy as np

from ocrsmith.evaluation.figures.section import Section, Texts, affordable
from ocrsmith.evaluation.figures.structure import TEDS_WORK, share, teds_work
from ocrsmith.evaluation.metrics.boxes import score_boxes
from ocrsmith.evaluation.metrics.documents import Block, parse_blocks, score_document
from ocrsmith.evaluation.statistics import Column
from ocrsmith.text.boxes import parse_boxes

MIN_BLOCKS = 2
"""Blocks that make a text a document."""
_CHARACTERS = 2000
"""Pairs of characters that are compared in the time of one pair of a table's nodes, about."""


def order_section(texts: Texts) -> Section:
    """Distances of text, formulas and reading order of the pages whose references are documents.

    Tables play their part in the reading order; how well they were read is said by `tables`.
    """
    blocks = {
        page: found
        for page, reference in enumerate(texts.references)
        if len(found := parse_blocks(reference)) >= MIN_BLOCKS
    }
    if not blocks:
        return Section()
    work = {
        page: _work(found, texts.references[page], texts.predictions[page]) for page, found in blocks.items()
    }
    compared = affordable(work, TEDS_WORK)
    counts = np.full((len(texts.references), 6), np.nan)  # edits and length of text, formulas, order
    for page in sorted(compared):
        score = score_document(texts.references[page], texts.predictions[page])
        parts = [
            part for pair in (score.text, score.formulas, score.order) for part in (pair.edits, pair.length)
        ]
        if texts.failed[page]:
            parts[4:] = [len(blocks[page])] * 2  # nothing was read, so nothing was in its place
        counts[page] = parts
    columns = []
    for place, name in enumerate(("order.text", "order.formulas", "order.reading")):
        edits, length = counts[:, 2 * place], counts[:, 2 * place + 1].copy()
        length[length == 0] = np.nan  # a page without formulas has no figure for them
        columns.append(share(name, np.where(np.isnan(length), np.nan, edits), length))
    return Section(columns, {"order.skipped": len(blocks) - len(compared)})


def _work(blocks: list[Block], reference: str, prediction: str) -> int:
    """What comparing costs, in pairs of table nodes."""
    tables = [block.table for block in blocks if block.table]
    characters = len(reference) * len(prediction) // _CHARACTERS
    if not tables:
        return characters
    read = [block.table for block in parse_blocks(prediction) if block.table]
    # Each table is compared with one at most: the largest with the largest is as much as it can be.
    sizes = [sorted(own, key=lambda table: -len(table.cells)) for own in (tables, read)]
    return characters + sum(teds_work(*pair) for pair in zip(*sizes, strict=False))


def box_columns(texts: Texts) -> list[Column]:
    """F1, precision, recall and IoU of the pages whose references have boxes."""
    counts = np.full((len(texts.references), 4), np.nan)  # matched, of the reference, read, sum of IoU
    for page, reference in enumerate(texts.references):
        if any(span.boxes for span in parse_boxes(reference)):
            score = score_boxes(reference, texts.predictions[page])
            counts[page] = score.matched, score.reference, score.prediction, score.iou_sum
    matched, true, read, iou = counts.T
    return [
        share("boxes.f1", 2 * matched, true + read),
        share("boxes.precision", matched, read),
        share("boxes.recall", matched, true),
        share("boxes.iou", iou, true),
    ]
