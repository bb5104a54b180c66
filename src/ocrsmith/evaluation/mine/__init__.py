"""Hard cases of an evaluation: what to label next, what to doubt, what to draw."""

from ocrsmith.evaluation.mine.mining import Mined, mine

__all__ = ["Mined", "mine"]
