"""What happens to a run: each fault strikes once, and says how it is undone."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import psutil

from crashes.store import Store, Violation
from luigi_tasks.database import embedded
from luigi_tasks.run.lifecycle import ALREADY_RUNNING

Fault: TypeAlias = Callable[[Store, subprocess.Popen[str], random.Random], None]

_FILLER = "filler"


def kill_parent(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGKILL to the run's first process."""
    run.kill()


def terminate(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGTERM, as from systemd or a shutdown."""
    run.terminate()


def interrupt(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """Ctrl-C."""
    run.send_signal(signal.SIGINT)


def kill_child(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGKILL to one of its other processes, as the kernel does where memory is short."""
    children = [process for process in store.processes() if process.pid != run.pid]
    if children:
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(children).kill()


def stop_child(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGSTOP to one of its other processes, which from then on hears nothing, not even that its time is over."""
    children = [process for process in store.processes() if process.pid != run.pid]
    if children:
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(children).suspend()


def hang_up(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGHUP, as where a terminal ends."""
    run.send_signal(signal.SIGHUP)


def kill_all(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGKILL to all of its processes and to both services: power is cut, short of the disk's cache."""
    victims = [*store.processes(), store.postgres, *store.postgres.children()]
    luigid = store.workspace.luigid()
    for process in [*victims, *([luigid] if luigid else [])]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_luigid(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGKILL to luigid, which is started again within two seconds."""
    luigid = store.workspace.luigid()
    if luigid:
        luigid.kill()
        luigid.wait()
    time.sleep(draw.uniform(0, 2))
    store.up()


def kill_postgres(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGKILL to one backend, upon which PostgreSQL ends all of them and recovers."""
    backends = store.postgres.children()
    with contextlib.suppress(psutil.NoSuchProcess):
        draw.choice(backends).kill()


def stop_postgres_at_once(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """`pg_ctl stop -m immediate`: no checkpoint, as with a power cut; started again within two seconds."""
    stop_postgres(store.var / "postgres", "immediate")
    time.sleep(draw.uniform(0, 2))
    store.up()


def restart_postgres(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """`pg_ctl stop -m fast`, as for an upgrade; started again two seconds later."""
    stop_postgres(store.var / "postgres", "fast")
    time.sleep(2)
    store.up()


def stop_postgres(folder: Path, mode: str) -> None:
    """`pg_ctl stop` of an embedded server, by its owner."""
    program = str(embedded.psql().with_name("pg_ctl"))
    owner = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0])).username()
    command = [program, "-D", str(folder), "-m", mode, "-w", "stop"]
    as_owner = command if owner == psutil.Process().username() else ["setpriv", f"--reuid={owner}", "--", *command]
    subprocess.run(as_owner, capture_output=True, check=True)


def fill_disk(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """No byte is left, for the store and for PostgreSQL, until the run has ended."""
    with contextlib.suppress(OSError), (store.var / _FILLER).open("wb", buffering=0) as file:
        block = bytes(2**20)
        while True:
            file.write(block)


def drain(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """SIGUSR1: it ends what it has begun."""
    run.send_signal(signal.SIGUSR1)


def start_again(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """The same command once more, as by cron and by hand: it does nothing, unless the first one has just ended."""
    second = store.run()
    if second.code != ALREADY_RUNNING and run.poll() is None:
        raise Violation(f"a second run beside the first one: {second}")


def set_clock(store: Store, run: subprocess.Popen[str], draw: random.Random) -> None:
    """All clocks, the servers' too, are put back or forward, by seconds or by days."""
    store.set_clock(draw.choice((-1, 1)) * draw.choice((5, 3600, 40 * 86400)))


def undo(store: Store) -> None:
    """What does not end with the run: a full disk, a wrong clock."""
    (store.var / _FILLER).unlink(missing_ok=True)
    store.set_clock(0)


ALL: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_parent,
        terminate,
        interrupt,
        kill_child,
        stop_child,
        hang_up,
        kill_all,
        kill_luigid,
        kill_postgres,
        stop_postgres_at_once,
        restart_postgres,
        fill_disk,
        drain,
        start_again,
        set_clock,
    )
}
