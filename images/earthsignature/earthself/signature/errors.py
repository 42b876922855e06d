"""The errors of EarthSignature, the same on both sides of the wire: the server turns each into a gRPC status, the client turns it back."""

from __future__ import annotations

from earthself.data.errors import EarthSelfError


class SignatureError(EarthSelfError):
    """Anything that EarthSignature refuses or cannot do."""


class BadSignature(SignatureError):
    """A product, a raster or a filter is not what the interface asks for (INVALID_ARGUMENT, exit 65)."""

    exit_code = 65


class AlreadyExists(SignatureError):
    """The id is taken by a product with other content (ALREADY_EXISTS, exit 65)."""

    exit_code = 65


class NotFound(SignatureError):
    """No product, layer or server answers to that name (NOT_FOUND, UNIMPLEMENTED, exit 69)."""

    exit_code = 69


class AccessRefused(SignatureError):
    """A token is missing, wrong or may not travel there (UNAUTHENTICATED, PERMISSION_DENIED, exit 65)."""

    exit_code = 65


class Unavailable(SignatureError):
    """The server is away, busy or too slow for now (UNAVAILABLE, DEADLINE_EXCEEDED, exit 75)."""

    exit_code = 75
    retry = True


class StoreBroken(SignatureError):
    """The store is not what its database says, or cannot be opened (DATA_LOSS, exit 1)."""


class StoreFull(SignatureError):
    """The store has no room for what was sent (RESOURCE_EXHAUSTED, exit 75)."""

    exit_code = 75
    retry = True


class Unimplemented(NotFound):
    """The server has no such service or method (UNIMPLEMENTED)."""
