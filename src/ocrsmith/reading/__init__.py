"""Reading documents: images, TIFFs and PDFs in, Markdown, text or JSON out, with what is uncertain marked."""

from ocrsmith.reading.document import Block, Box, Document, Page, Span
from ocrsmith.reading.reader import Reader, load

__all__ = ["Block", "Box", "Document", "Page", "Reader", "Span", "load"]
