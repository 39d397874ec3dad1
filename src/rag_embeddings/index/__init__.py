"""The bulk path: ingest a corpus, incrementally and crash-safe."""
