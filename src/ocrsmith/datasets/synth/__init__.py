"""Synthetic data: texts drawn with many fonts and made to look as scans, photos and faxes do."""

from ocrsmith.datasets.synth.settings import SynthSettings
from ocrsmith.datasets.synth.source import synth_source

__all__ = ["SynthSettings", "synth_source"]
