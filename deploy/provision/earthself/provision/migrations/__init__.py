"""Changes of the journal's tables."""
