"""Query to matches."""
