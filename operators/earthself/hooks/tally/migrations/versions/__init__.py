"""One file a change; its number is its place."""
