"""From adapter to production: merged weights that vLLM loads, verified against the adapter they came from."""
