"""Typed settings, their YAML form, and what is written down so that a result can be reproduced."""

from ocrsmith.settings.base import Settings
from ocrsmith.settings.lora import LoraSettings, LoraTarget

__all__ = ["LoraSettings", "LoraTarget", "Settings"]
