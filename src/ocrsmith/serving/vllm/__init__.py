"""Serving with vLLM: its command, its process, and the backend that hands requests on to it.

`command.py` is what vLLM is started with and what a model folder must have for it; `adapters.py` decides how
adapters get there; `process.py` and `keeper.py` start vLLM and end it; `backend.py` asks it, and `answers.py`
reads what it says.
"""
