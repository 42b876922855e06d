"""Ports of the loopback interface: is one free, who holds it, which one to take."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Mapping

from earthself.local.errors import BadSetting, PortTaken
from earthself.local.settings import HOST


def is_free(port: int) -> bool:
    """Tell whether a server could listen on `port` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection in TIME_WAIT does not stop a server
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Tell whether something accepts connections on `port`."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that are free now."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def require_different(chosen: Mapping[str, int]) -> None:
    """Raise `BadSetting` when two variables name the same port."""
    for (variable, port), (other, same) in itertools.combinations(chosen.items(), 2):
        if port == same:
            raise BadSetting(f"{variable} and {other} are both {port}; give each a port of its own, or 0 for a free one")


def require_free(port: int, variable: str, purpose: str) -> None:
    """Raise `PortTaken`, naming the port, its holder where it can be seen, and the variable that changes it."""
    if is_free(port):
        return
    holder = _holder(port)
    advice = f"stop that program, or choose another port with {variable}=PORT"
    raise PortTaken(f"port {port} on {HOST} is in use{holder}, and the {purpose} needs it; {advice}")


def _holder(port: int) -> str:
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""
