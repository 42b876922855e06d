"""EarthSignature: a database of land-cover segmentations of Sentinel-2 products, its server and its client.

`earthself.signature.client.SignatureClient` reads and writes; `earthself.signature.server` serves; the command `earthsignature`
does both. Nothing heavy is imported here.
"""
