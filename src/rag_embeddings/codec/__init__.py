"""Vectors to smaller vectors: truncation, one byte or one bit a dimension, product quantisation."""
