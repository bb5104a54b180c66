"""Reading documents: images, TIFFs and PDFs in, Markdown, text or JSON out, with what is uncertain marked."""

from ocrsmith.reading.document import Block, Box, Document, JoinedTable, Page, Span
from ocrsmith.reading.joining import join_tables
from ocrsmith.reading.reader import Reader, load

__all__ = ["Block", "Box", "Document", "JoinedTable", "Page", "Reader", "Span", "join_tables", "load"]
