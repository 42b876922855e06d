"""Benchmarks: each module measures one promise against a peer in the same run and returns rows."""
