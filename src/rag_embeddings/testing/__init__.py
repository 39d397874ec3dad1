"""Laws as functions, a small deterministic encoder and failpoints: what our tests use, for yours too."""
