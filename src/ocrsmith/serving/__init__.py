"""The OpenAI-compatible server: one app before our own engine or vLLM, with limits, keys and a canary."""
