"""The engine that runs vLLM in this process; the library itself is loaded when a model is.

`engine.py` is what callers see; `requests.py` is what vLLM is asked and what it answers.
"""

from ocrsmith.engines.vllm.engine import VllmEngine, check_model

__all__ = ["VllmEngine", "check_model"]
