"""The native engine: our own model in this process, greedy decoding of many pages at a time with loop control.

`engine.py` is what callers see; beside it `feed.py` (opens images ahead), `prefill.py` (images and prompts),
`batching.py` (which page is decoded when), `stepping.py` (steps on the device), `loop_control.py` (forbids
repetition there) and `loop_end.py` (ends it).
"""

from ocrsmith.engines.native.engine import BATCH_SIZES, NativeEngine, choose_device, folder_hash
from ocrsmith.engines.native.prefill import PageFeatures

__all__ = ["BATCH_SIZES", "NativeEngine", "PageFeatures", "choose_device", "folder_hash"]
