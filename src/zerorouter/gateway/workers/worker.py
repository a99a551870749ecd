"""A worker's process: ``python -m zerorouter.gateway.workers.worker HANDLE``, by the supervisor.

HANDLE is that of its socket to the supervisor, which says everything else.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from zerorouter.errors import ZeroRouterError
from zerorouter.gateway.workers.channel import encode, receive


def main() -> None:
    """Serve until told to stop; exits with 1 where it cannot."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    try:
        told = receive(control)["options"]
    except EOFError:  # the supervisor has gone
        sys.exit(1)
    try:
        _serve(control, told)
    except ZeroRouterError as error:
        try:
            control.setblocking(True)
            control.sendall(encode({"kind": "failed", "message": str(error)}))
        except OSError:
            print(f"zerorouter: {error}", file=sys.stderr)
        sys.exit(1)


def _serve(control: socket.socket, told: dict[str, Any]) -> None:
    from zerorouter.gateway.running import Place, ServeOptions, serve_as_worker
    from zerorouter.gateway.workers.member import Member
    from zerorouter.gateway.workers.starting import SharedStream

    sockets = tuple(socket.socket(fileno=handle) for handle in told["handles"])
    for one in sockets:
        one.set_inheritable(False)
        one.setblocking(False)
    stream: Any = SharedStream(told["log_lock"])
    options = ServeOptions(
        config_path=None if told["config_path"] is None else Path(told["config_path"]),
        space=told["space"],
        host=told["host"],
        sandbox=told["sandbox"],
        silent=told["silent"],
        log_to=None if told["silent"] else stream,
        books=told["books"],
    )
    place = Place(
        member=Member(told["index"], told["count"]),
        control=control,
        sockets=sockets,
        sandbox_url=told["sandbox_url"],
        last_good=told["last_good"],
    )
    serve_as_worker(options, place, on_ready=lambda _: None)


if __name__ == "__main__":
    main()
