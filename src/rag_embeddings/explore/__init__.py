"""Looking at splits and embeddings."""
