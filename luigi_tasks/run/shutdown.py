"""What a run that got SIGTERM, Ctrl-C or SIGHUP goes on as: it waits for its children and writes the report.

`python -m luigi_tasks.run.shutdown RUN_ID SIGNAL [arguments of luigi …]`, in the place of Luigi's parent process
and with its children; only `lifecycle` starts it.
"""

from __future__ import annotations

import os
import signal
import stat
import sys

import luigi
import psutil
from luigi.cmdline_parser import CmdlineParser
from luigi.setup_logging import InterfaceLogging

from luigi_tasks.run import lifecycle, luigid_client

_LONGEST_WAIT = 10.0
"""Seconds. The children end by themselves, at once; one that is stuck in the kernel may not."""


def main(run_id: str, number: int, arguments: list[str]) -> None:
    """Exits with 128 + the signal's number, as a shell says of a process that the signal ended."""
    _, stuck = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=_LONGEST_WAIT)
    for process in stuck:
        process.kill()
    if number == signal.SIGHUP:
        _leave_terminal()
    # The arguments may hold settings, such as --Store-root.
    with CmdlineParser.global_instance(arguments):
        InterfaceLogging.setup(luigi.interface.core())
        luigid_client.release_process(os.getpid())
        lifecycle.end(run_id, signal.Signals(number).name)
    sys.exit(128 + number)


def _leave_terminal() -> None:
    """What is said goes nowhere where it went to a terminal: that has ended, and writing to it would fail."""
    for stream in (sys.stdout, sys.stderr):
        if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
