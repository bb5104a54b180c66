"""How a server stands load: pages sent to any OpenAI-compatible endpoint, and what is made of the answers."""
