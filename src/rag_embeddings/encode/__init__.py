"""Text to vectors: encoders, their profiles, token vectors."""
