"""The life of a step's pod, for the worker that begins it and the triggerer that waits for it: one way of doing it for both."""
