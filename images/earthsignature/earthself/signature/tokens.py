"""The commands `earthsignature token add|list|remove`: who may read and write a server that other machines can reach."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from earthself.data.terminal import Json, say
from earthself.signature.access import TokenFile
from earthself.signature.terminal import errors

app = typer.Typer(help="Tokens of a server's users.", no_args_is_help=True)
_File = Annotated[Path, typer.Option("--tokens", envvar="EARTHSELF_SIGNATURE_TOKENS", help="The list of tokens, a file of mode 600.")]
_Name = Annotated[str, typer.Argument(help="Whose token; goes to the log with what it wrote.")]


@app.command()
def add(
    name: _Name,
    *,
    tokens: _File,
    right: Annotated[str, typer.Option(help="read or write; write includes read.")] = "read",
    expires: Annotated[str | None, typer.Option(help="Date or time from which on it is refused; never if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it, once: the list keeps only what recognises it."""
    with errors(as_json):
        token = TokenFile(tokens).add(name, right, expires)
    say({"name": name, "right": right, "expires": expires, "token": token} if as_json else token)


@app.command(name="list")
def list_tokens(*, tokens: _File, as_json: Json = False) -> None:
    """List the tokens' names, rights and ends."""
    with errors(as_json):
        known = TokenFile(tokens).tokens()
    now = datetime.now(UTC)
    for token in sorted(known, key=lambda token: token.name):
        said = {"name": token.name, "right": token.right, "expires": token.expires, "expired": token.expired(now)}
        say(
            said
            if as_json
            else f"{token.name:<30} {token.right:<5} {'EXPIRED ' if token.expired(now) else ''}{token.expires or 'for ever'}"
        )


@app.command()
def remove(name: _Name, *, tokens: _File, as_json: Json = False) -> None:
    """Forget a token; running servers refuse it from the next call on."""
    with errors(as_json):
        TokenFile(tokens).remove(name)
    say({"name": name, "removed": True} if as_json else f"removed the token of {name}")
