"""The DeepSeek-OCR family: network, processor, weights, adapters. Needs torch."""
