"""How good retrieval is, on a user's own questions."""
