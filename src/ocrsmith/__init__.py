"""ocrsmith: make DeepSeek-OCR the expert of your documents, and know that it got better."""

__version__ = "0.1.0"
