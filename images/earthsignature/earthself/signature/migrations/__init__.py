"""Changes of the tables, in order; run by `earthself.signature.catalog.migrate`."""
