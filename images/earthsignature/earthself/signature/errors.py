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


class BadSetting(SignatureError):
    """A server, a connection or a list of tokens cannot be set up as asked for: a file, an address, a name (exit 65)."""

    exit_code = 65


class AccessRefused(SignatureError):
    """A token or a certificate is missing, wrong or may not travel there (UNAUTHENTICATED, PERMISSION_DENIED, exit 65)."""

    exit_code = 65


class NotAuthenticated(AccessRefused):
    """The call needs a token that this server knows (UNAUTHENTICATED)."""


class NotPermitted(AccessRefused):
    """The token is known, but has no right to this, or nobody has (PERMISSION_DENIED)."""


class Unavailable(SignatureError):
    """The server is away, busy or too slow for now (UNAVAILABLE, DEADLINE_EXCEEDED, exit 75)."""

    exit_code = 75
    retry = True


class TooBusy(Unavailable):
    """The server has as many calls as it takes; the caller waits and tries again (RESOURCE_EXHAUSTED with a pushback)."""


class TooSlow(SignatureError):
    """The caller did not send or take a message for too long (DEADLINE_EXCEEDED)."""

    exit_code = 75
    retry = True


class OverTime(TooSlow):
    """Answering takes longer than the store gives one question; asked again in the same way it would, too."""

    retry = False


class StoreBroken(SignatureError):
    """The store is not what its database says, or cannot be opened (DATA_LOSS, exit 1)."""


class StoreFull(SignatureError):
    """The store has no room for what was sent (RESOURCE_EXHAUSTED, exit 75)."""

    exit_code = 75
    retry = True


class TooMuch(SignatureError):
    """An answer would need more than the server gives to one (RESOURCE_EXHAUSTED, exit 65)."""

    exit_code = 65


class Unimplemented(NotFound):
    """The server has no such service or method (UNIMPLEMENTED)."""
