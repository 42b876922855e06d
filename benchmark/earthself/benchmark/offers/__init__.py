"""What clouds offer, for which price, where, and what is certified about them: the catalogue and what fills it."""
