"""PDF pages as samples: the picture of a page, and its text as Markdown where the text can be trusted."""
