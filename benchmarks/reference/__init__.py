"""The peers that ocrsmith is measured against, written with public packages only."""
