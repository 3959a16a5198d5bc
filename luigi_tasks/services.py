"""The two servers that a run needs, PostgreSQL and luigid: started, stopped and asked how they are."""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi
import psutil

from luigi_tasks.database import embedded
from luigi_tasks.database.engine import shown
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import ConfigurationError, SecuritiesMasterError, ServiceFailure
from luigi_tasks.settings import SECRETS, Settings

logger = logging.getLogger(__name__)

_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_ASK_SECONDS = 5.0


@dataclass(frozen=True)
class Luigid:
    """Our own luigid: one per store, on a loopback address unless `allow_public`."""

    root: Path
    host: str
    port: int
    reports: Path
    allow_public: bool = False

    @classmethod
    def configured(cls, settings: Settings) -> Luigid:
        env: Any = luigi.interface.core()
        return cls(
            settings.root / "luigid",
            env.scheduler_host,
            env.scheduler_port,
            settings.reports,
            settings.luigid_public,
        )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """Host without the brackets that a URL, and so Luigi, wants around an IPv6 address."""
        return self.host.strip("[]")

    @property
    def log(self) -> Path:
        return self.root / "luigid.log"

    def process(self) -> psutil.Process | None:
        """Its process if it runs; a process that has got its number since is not it."""
        try:
            process = psutil.Process(int((self.root / "pid").read_text()))
            command = process.cmdline()
        except (OSError, ValueError, psutil.Error):
            return None
        return process if str(self.root / "state.pickle") in command else None

    def answers(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), 2).close()
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Start it if none is running there; one that is somebody else's is used, and what it lacks is told.

        Raises:
            ConfigurationError: other machines could reach it, and nobody has said that they may.
            ServiceFailure: it does not start; the message names the port or the log.
        """
        self._check_who_may_come()
        if self.process() is not None and self.answers():
            return
        if self.answers():
            lacking = self.lacking()
            if lacking is None:
                raise ServiceFailure(
                    f"port {self.port} on {self.host}",
                    "is taken by another program",
                    "Stop that, or set scheduler_port in luigi.cfg to a free one.",
                )
            for words in lacking:
                logger.warning("warning: the luigid at %s is not ours, and %s", self.url, words)
            return
        self.root.mkdir(parents=True, exist_ok=True)
        command = [
            # -P: what stands beside it is no module to it.
            *(sys.executable, "-P", str(Path(__file__).with_name("luigid.py"))),
            *("--reports", str(self.reports)),
            *("--address", self.address),
            *("--port", str(self.port)),
            *("--state-path", str(self.root / "state.pickle")),
        ]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_without_secrets(),
            )
        (self.root / "pid").write_text(str(process.pid))
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServiceFailure("luigid", "does not start", f"See {self.log}.")
            time.sleep(0.1)

    def lacking(self) -> list[str] | None:
        """What the luigid that answers there has not, of what a run wants, in words; None: it is no luigid."""
        try:
            asked = f"{self.url}/api/resource_list?data=%7B%7D"
            with urllib.request.urlopen(asked, timeout=_ASK_SECONDS) as answer:  # noqa: S310
                known = {resource["name"] for resource in json.load(answer)["response"]}
            with urllib.request.urlopen(f"{self.url}/reports/", timeout=_ASK_SECONDS):  # noqa: S310
                shows_reports = True
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.NOT_FOUND or "/reports/" not in error.url:
                return None
            shows_reports = False
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None
        wanted = [name for name in dict(luigi.configuration.get_config().items("resources")) if name not in known]
        found = [f"does not know [resources] {name}: one ticker at a time is worked on" for name in wanted]
        return found if shows_reports else [*found, "shows no reports: its page does not link to them"]

    def _check_who_may_come(self) -> None:
        subject = f"scheduler_host {self.host!r} in luigi.cfg"
        if self.address.count(":") > 1 and self.address == self.host:
            raise ConfigurationError(subject, "is an IPv6 address without brackets", f"Write [{self.host}].")
        try:
            # An empty one is every interface to luigid.
            found = socket.getaddrinfo(self.address or "0.0.0.0", self.port, type=socket.SOCK_STREAM)  # noqa: S104
        except OSError as error:
            raise ConfigurationError(
                subject, f"cannot be resolved ({error.strerror or error})", "Use 127.0.0.1."
            ) from error
        addresses = {str(where[0]).partition("%")[0] for *_, where in found}
        public = sorted(address for address in addresses if not ipaddress.ip_address(address).is_loopback)
        if not public:
            return
        if not self.allow_public:
            raise ConfigurationError(
                subject,
                f"lets other machines reach luigid ({', '.join(public)}), and whoever reaches it can run code as you",
                "Use 127.0.0.1 and an SSH tunnel, or set allow_public = true in [Luigid]; see docs/security.md.",
            )
        logger.warning(
            "warning: luigid listens on %s, port %s, without a password: whoever reaches it can run code as you",
            ", ".join(public),
            self.port,
        )

    def stop(self) -> bool:
        """Stop it; it keeps its state. False if it was not running."""
        process = self.process()
        if process is None:
            return False
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
        (self.root / "pid").unlink(missing_ok=True)
        return True


def up(settings: Settings) -> dict[str, str]:
    """Start what is not running; returns {service: where it is}. Raises ServiceFailure."""
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceFailure(
            str(settings.root), f"cannot be written ({error.strerror})", "Check permissions."
        ) from error
    if settings.database_url is None:
        embedded.start(settings)
    database_url = embedded.url(settings)
    Ledger(database_url).migrate()
    luigid = Luigid.configured(settings)
    luigid.start()
    return {"PostgreSQL": shown(database_url), "luigid": luigid.url}


def down(settings: Settings) -> dict[str, bool]:
    """Stop what is ours; returns {service: whether it was running}."""
    return {"luigid": Luigid.configured(settings).stop(), "PostgreSQL": embedded.stop(settings)}


def state(settings: Settings) -> dict[str, str]:
    """{service: how it is, in words}."""
    try:
        database_url = embedded.url(settings)
        Ledger(database_url).answers()
        database = f"answers at {shown(database_url)}"
    except SecuritiesMasterError as error:
        database = str(error)
    luigid = Luigid.configured(settings)
    if luigid.process() is not None:
        scheduler = f"answers at {luigid.url}" if luigid.answers() else f"runs but does not answer; see {luigid.log}"
    else:
        scheduler = "a luigid that is not ours answers at " + luigid.url if luigid.answers() else "is not running"
    return {"PostgreSQL": database, "luigid": scheduler}


def _without_secrets() -> dict[str, str]:
    """luigid shows its environment to nobody, and needs neither database nor webhook."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}
