"""How the tables of what was seen came to be."""
