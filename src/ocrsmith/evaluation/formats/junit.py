"""JUnit XML, which CI services show: a test suite of the pages, those that went wrong as failures."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.report.wording import FIGURES, data_name, figure_value, model_name, percent
from ocrsmith.evaluation.store import Evaluation, PageResult

SHOWN = 1000
"""Characters of a reference or prediction that a failure shows."""

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even as a reference: most control characters, and halves of surrogate pairs."""


def to_junit(evaluation: Evaluation, *, fail_above: float | None = None) -> str:
    """The evaluation as JUnit XML.

    Args:
        evaluation: at least one page.
        fail_above: CER, as a fraction, above which a page fails; None: only pages that fell into a loop, and
            those without a result, which are errors.
    """
    name = f"{model_name(evaluation.provenance)} on {data_name(evaluation.provenance)}"
    suite = Element("testsuite", name=legal(name))
    properties = SubElement(suite, "properties")
    for key, _, _ in FIGURES:
        SubElement(properties, "property", name=key, value=f"{figure_value(evaluation.metrics, key):.6g}")
    for result, score in zip(evaluation.results, evaluation.scores, strict=True):
        case = SubElement(
            suite,
            "testcase",
            name=legal(result.id),
            classname=legal(result.group or data_name(evaluation.provenance)),
            time=f"{result.seconds:.3f}",
        )
        _judge(case, result, score, fail_above)
    counts = {
        "tests": str(len(evaluation.results)),
        "failures": str(len(suite.findall("testcase/failure"))),
        "errors": str(len(suite.findall("testcase/error"))),
        "skipped": "0",
        "time": f"{evaluation.metrics.seconds:.3f}",
    }
    created = str(evaluation.provenance.get("created") or "")
    suite.attrib |= counts | ({"timestamp": legal(created[:19])} if created else {})
    root = Element("testsuites", {"name": "ocrsmith", **counts})
    root.append(suite)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def legal(text: str) -> str:
    """The text with U+FFFD for every character that XML cannot hold."""
    return _ILLEGAL.sub("\ufffd", text)


def _judge(case: Element, result: PageResult, score: PageScore, fail_above: float | None) -> None:
    """Puts under a test case what went wrong, if anything."""
    if result.finish_reason == "error":
        reason = legal(result.error or "no result")
        SubElement(case, "error", message=reason, type="failed").text = reason
        return
    if result.finish_reason == "loop":
        kind, message = "loop", f"endless repetition, CER {percent(score.cer)}"
    elif fail_above is not None and score.cer > fail_above:
        kind, message = "cer", f"CER {percent(score.cer)}, above {percent(fail_above)}"
    else:
        return
    texts = (("reference", result.reference), ("prediction", result.prediction))
    failure = SubElement(case, "failure", message=message, type=kind)
    failure.text = legal("\n".join(f"{name}: {_shorten(text)}" for name, text in texts))


def _shorten(text: str) -> str:
    cut = len(text) - SHOWN
    return f"{text[:SHOWN]} … ({cut:,} more characters)" if cut > 0 else text
