"""What Luigi would refuse on its command line, said in one line.

By itself it prints two hundred options, or a traceback, and has no hook in between. But it loads `--module luigi_tasks`
before it looks at the options, so this is asked then, of what Luigi tells everybody: the registered tasks and their
parameters.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import luigi
from luigi.task_register import Register, TaskClassException

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.report import alert
from luigi_tasks.run import lifecycle
from luigi_tasks.tasks.parameters import CommaSeparated
from luigi_tasks.tickers import separated

_MODULE = ("--module", "luigi_tasks")
_LONGEST = 100


def check_program() -> None:
    """In the process of `luigi --module luigi_tasks …` alone: end it with CANNOT_BEGIN, after one line that says why,
    where its command line cannot be used."""
    arguments = sys.argv[1:]
    if lifecycle.is_luigi() and _loads_this(arguments):
        try:
            check(arguments)
        except ConfigurationError as error:
            # Nothing logs yet.
            print(f"error: cannot begin: {error}", file=sys.stderr)
            alert.tell(alert.cannot_begin(error))
            raise SystemExit(lifecycle.CANNOT_BEGIN) from None


def check(arguments: Sequence[str]) -> None:
    """Raise ConfigurationError for the first of Luigi's arguments that cannot be used, or is lacking."""
    words, _ = _Parser().parse_known_args(arguments)
    # Without a task Luigi says so in a line; its help is none of ours.
    if words.task is None or {"--help", "--help-all"}.intersection(arguments):
        return
    task = _task(words.task)
    parser = _Parser(words.task)
    given, rest = parser.parse_known_args(arguments)
    if rest:
        _refuse(next((word for word in rest if word.startswith("-")), rest[0]), arguments, parser, words.task)
    values = {name: text for name, text in vars(given).items() if text not in (None, False)}
    for name, text in values.items():
        if name in parser.options and isinstance(text, str):
            _try(parser.options[name], text)
    for family in (task, luigi.interface.core):
        for name, parameter in family.get_params():
            if not values.keys() & {name, f"{family.get_task_family()}.{name}"}:
                _require(family.get_task_family(), name, parameter)


class _Option:
    """An option of the command line, and the parameter that it sets."""

    def __init__(self, flag: str, parameter: luigi.Parameter[Any]) -> None:
        self.flag, self.parameter = flag, parameter


class _Parser(argparse.ArgumentParser):
    """Reads the command line as Luigi does, with the options of this task."""

    def __init__(self, task: str = "") -> None:
        super().__init__(add_help=False)
        self.options: dict[str, _Option] = {}
        self.add_argument("task", nargs="?")
        for family, is_bare, name, parameter in Register.get_all_params():
            self._add(f"{family}.{name}", name if is_bare else f"{family}_{name}", parameter)
            if family == task:
                self._add(name, name, parameter)

    def _add(self, key: str, name: str, parameter: luigi.Parameter[Any]) -> None:
        flag = f"--{name.replace('_', '-')}"
        kind: dict[str, Any] = {}
        if isinstance(parameter, luigi.BoolParameter):
            implicit = parameter.parsing == luigi.BoolParameter.IMPLICIT_PARSING
            kind = {"action": "store_true"} if implicit else {"nargs": "?", "const": True}
        self.add_argument(flag, dest=key, **kind)
        self.options[key] = _Option(flag, parameter)

    def error(self, message: str) -> NoReturn:
        subject, _, reason = message.removeprefix("argument ").partition(": ")
        raise ConfigurationError(subject, reason)


def _loads_this(arguments: Sequence[str]) -> bool:
    return _MODULE in pairwise(arguments) or "=".join(_MODULE) in arguments


def _task(name: str) -> type[luigi.Task]:
    try:
        found: type[luigi.Task] = Register.get_task_cls(name)
    except TaskClassException:
        close = difflib.get_close_matches(name, Register.task_names(), 1)
        remedy = f"Did you mean {close[0]}?" if close else "docs/reference/tasks.md has all."
        raise ConfigurationError(f"task {_shown(name)}", "there is none of this name", remedy) from None
    return found


def _refuse(word: str, arguments: Sequence[str], parser: _Parser, task: str) -> NoReturn:
    """Raise ConfigurationError for a word that is no option and belongs to none."""
    help_lists = f"luigi --module luigi_tasks {task} --help lists the options."
    flags = {option.flag: option for option in parser.options.values()}
    if word.startswith("-"):
        close = difflib.get_close_matches(word.partition("=")[0], flags, 1)
        remedy = f"Did you mean {close[0]}?" if close else help_lists
        raise ConfigurationError(_shown(word.partition("=")[0]), f"is no option of {task}", remedy)
    flag, words = _around(word, arguments)
    option = flags.get(flag)
    if option is not None and isinstance(option.parameter, CommaSeparated):
        names = separated(",".join(words))
        raise ConfigurationError(
            _shown(word),
            f"is a word of its own, and not part of {flag}: the shell takes words apart at blanks",
            f"Write it without the blank, or in quotes: {flag} {','.join(names)}"[: 4 * _LONGEST],
        )
    raise ConfigurationError(_shown(word), "belongs to no option", f"Text with blanks needs quotes; {help_lists}")


def _around(word: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The option before the word, and all that stands between that and the next option."""
    place = len(arguments) - 1 - list(reversed(arguments)).index(word)
    first = next((at for at in range(place, -1, -1) if arguments[at].startswith("--")), None)
    if first is None:
        return "", []
    flag, _, joined = arguments[first].partition("=")
    words = list(_until_option(arguments[first + 1 :]))
    return flag, [joined, *words] if joined else words


def _until_option(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("--"):
            return
        yield word


def _try(option: _Option, text: str) -> None:
    """Raise ConfigurationError for a text that the option's parameter does not take."""
    try:
        option.parameter.parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{option.flag} {_shown(text)}", error.reason, error.remedy) from None
    except Exception as error:
        # Whatever a parameter raises: Luigi would end with it as a traceback.
        kinds = {luigi.IntParameter: "is not a whole number", luigi.FloatParameter: "is not a number"}
        of_kind = next((words for kind, words in kinds.items() if isinstance(option.parameter, kind)), "")
        reason = of_kind or f"cannot be used ({' '.join(str(error).split())[:_LONGEST]})"
        raise ConfigurationError(f"{option.flag} {_shown(text)}", reason) from None


def _require(family: str, name: str, parameter: luigi.Parameter[Any]) -> None:
    """Raise ConfigurationError where the parameter has no value, or one from luigi.cfg that it does not take."""
    try:
        known = parameter.has_task_value(family, name)
    except Exception as error:
        # As above.
        reason = error.reason if isinstance(error, ConfigurationError) else "has a value that is not of its kind"
        raise ConfigurationError(f"[{family}] {name} in luigi.cfg", reason) from None
    if not known:
        about = f" ({parameter.description})" if parameter.description else ""
        flag = f"--{name.replace('_', '-')}"
        raise ConfigurationError(family, f"has no {name.replace('_', ' ')}", f"Give it with {flag}{about}.")


def _shown(word: str) -> str:
    return repr(word[:_LONGEST])
