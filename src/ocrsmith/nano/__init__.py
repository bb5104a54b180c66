"""The nano base model: a small DeepSeek-OCR trained from scratch on rendered text."""
