"""TCP ports of the loopback."""

import socket

from labs.core.errors import UserError


def free_port() -> int:
    """A TCP port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback. UserError for a number that is no port."""
    if not 0 < port < 65536:
        raise UserError(f"{port} is not a port; use a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # connections of a past server do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
