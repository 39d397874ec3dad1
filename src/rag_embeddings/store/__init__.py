"""Vectors to disk and back: stores, the ledger, and the index directory that holds them together."""
