"""EarthSignature over HTTP: a STAC API, tiles and pages for maps of stored products and published results. It only reads.

`app` puts the parts together; `search` is the only module here that knows the tables; the rest works on products and files.
"""
