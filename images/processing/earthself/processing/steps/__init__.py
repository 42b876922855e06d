"""The built-in steps, one module each; found through the entry point group `earthself.steps`."""
