"""Reading the configuration again: on SIGHUP, when the file or a profile changes, when /admin asks.

All or nothing: a file that is wrong changes nothing, and says so in log and metric. What is under
way ends by the configuration it began with. Profiles count as part of it: a model that has been
onboarded, or removed, joins or leaves the pool without a restart. Host, port, workers and the admin
port are taken at the start only.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from zerorouter.errors import ConfigError, ZeroRouterError
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.settling import settle
from zerorouter.gateway.setup import Setup
from zerorouter.paths import home_dir

WATCH_EVERY_S = 1.0


class Reloader:
    """Reads the configuration again.

    Args:
        gateway: Gets what was read.
        read: Makes a set-up from the file, given the one in force.
        path: The file; None where there is none to watch.
        on_taken: Called when what was read is in force.
    """

    def __init__(
        self,
        gateway: Gateway,
        read: Callable[[Setup], Setup],
        path: Path | None,
        *,
        on_taken: Callable[[], None] = lambda: None,
    ) -> None:
        self._gateway = gateway
        self._read = read
        self._path = path
        self._on_taken = on_taken
        self._seen = self._look()

    async def reload(self) -> None:
        """Read it now; the reading itself in a thread, so that requests go on.

        Raises:
            ConfigError: It is wrong; the one in force stays.
        """
        gateway = self._gateway
        self._seen = self._look()
        try:
            loop = asyncio.get_running_loop()
            setup = await loop.run_in_executor(None, self._read, gateway.setup)
        except (ZeroRouterError, OSError) as error:
            gateway.metrics.reloads.labels("failed").inc()
            gateway.metrics.config_ok.set(0)
            gateway.log.write({"event": "config_refused", "message": str(error)}, level="error")
            raise ConfigError(str(error)) from error
        gateway.take(setup)
        del setup
        settle()
        gateway.metrics.reloads.labels("ok").inc()
        gateway.metrics.config_ok.set(1)
        gateway.log.write({"event": "config_taken", "version": gateway.setup.version})
        self._on_taken()

    async def try_reload(self) -> None:
        """Read it now; what is wrong stands in log and metric."""
        try:
            await self.reload()
        except ConfigError:
            return

    async def watch(self) -> None:
        """Read it whenever it changes, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._gateway.setup.settings.watch_config and self._look() != self._seen:
                await self.try_reload()

    def _look(self) -> tuple[object, object]:
        """What tells one state of the file and of the profiles from another."""
        return self._look_at_file(), _look_at_profiles()

    def _look_at_file(self) -> tuple[int, int, bytes] | None:
        """What tells one state of the file from another; None while it is not there.

        Editors and volume mounts replace files, and times may be coarse: the content counts.
        """
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
            digest = hashlib.sha256(self._path.read_bytes()).digest()
        except OSError:
            return None
        return stat.st_size, stat.st_ino, digest


def _look_at_profiles() -> object:
    """What tells one state of the profiles from another; None while there are none."""
    if not (home_dir() / "profiles").is_dir():
        return None
    from zerorouter.profiles import ProfileStore  # what reads them is loaded where there are some

    try:
        return ProfileStore.default().stamp()
    except OSError:
        return None  # one went while they were listed; the next look is a second away
