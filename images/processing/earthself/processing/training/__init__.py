"""Make a land-cover model from labelled pixels, and say honestly how far it carries. Needs the extra `training`."""
