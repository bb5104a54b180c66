"""Measurements of speed and memory, each beside a reference taken in the same run. See README.md."""
