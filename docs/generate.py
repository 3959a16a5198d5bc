"""Writes docs/reference/ from the code, so that it cannot say anything else: `python -m docs.generate`.

With `--check` it writes nothing, and exits with 1 if a page would be another one. It starts a PostgreSQL of its own for
as long as it takes, makes the tables there, and reads them back.
"""

from __future__ import annotations

import configparser
import datetime as dt
import inspect
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import luigi
import sqlalchemy as sa
from luigi.task_register import Register
from sqlalchemy.dialects import postgresql

from luigi_tasks import settings
from luigi_tasks.cli import comparing
from luigi_tasks.database import embedded, schema
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import SecuritiesMasterError, TransientError
from luigi_tasks.report import findings
from luigi_tasks.report.collect import KINDS
from luigi_tasks.run import lifecycle
from luigi_tasks.targets.files import FileTarget
from luigi_tasks.tasks.download_quotes import DownloadQuotes
from luigi_tasks.tasks.parameters import CommaSeparated, OfFamily, today

FOLDER = Path(__file__).parent / "reference"
COMMAND = "python -m docs.generate"

_TYPES = {
    luigi.ChoiceParameter: "one word",
    luigi.BoolParameter: "true or false",
    luigi.IntParameter: "whole number",
    luigi.FloatParameter: "number",
    luigi.DateParameter: "date",
    CommaSeparated: "texts, by commas",
    luigi.Parameter: "text",
}
_LUIGIS = ("core", "resources", "worker", "scheduler")
_OWN = ("attempts", "time_limit", "priority")
_SAMPLE = {"kind": "ohlcv", "ticker": "AAPL", "run_id": "RUN", "universe": "DIGEST", "first": 0, "size": 10}
_DATE = dt.date(2026, 11, 20)


def pages(database_url: str) -> dict[str, str]:
    """{name of the file: its text}, with the tables of that database."""
    texts = {
        "settings.md": ["# Settings", *_settings()],
        "tasks.md": ["# Tasks", *_tasks()],
        "tables.md": ["# Tables and views", *_tables(database_url)],
        "errors.md": ["# Failures and exit codes", *_errors()],
        "findings.md": ["# Findings", *_findings()],
    }
    note = f"<!-- Written by `{COMMAND}`. -->"
    return {name: "\n\n".join([note, *paragraphs]) + "\n" for name, paragraphs in texts.items()}


def main(arguments: list[str]) -> int:
    """0 if the pages are, or now are, as the code has it."""
    with _database() as url:
        wanted = pages(url)
    present = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    if present == wanted:
        return 0
    if arguments == ["--check"]:
        differing = sorted(name for name in present.keys() | wanted.keys() if present.get(name) != wanted.get(name))
        print(f"docs/reference/ is not what the code says: {', '.join(differing)}. Run: {COMMAND}", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    for name in present.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


@contextmanager
def _database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        chosen = replace(settings.load(), root=Path(folder))
        url = embedded.start(chosen)
        try:
            Ledger(url).migrate()
            # What a task's output is, is asked for with it.
            os.environ["DATABASE_URL"] = url
            settings.load.cache_clear()
            yield url
        finally:
            engine_for(url).dispose()
            embedded.stop(chosen)


def _settings() -> Iterator[str]:
    yield (
        "They stand in `luigi.cfg`, or in a file of your own that `LUIGI_CONFIG_PATH` names and that is laid over it. "
        "`--Section-name value` on the command line of `luigi` sets one for a run. A default is what holds without "
        "any of them."
    )
    for name, section in inspect.getmembers(settings, _is_section):
        yield f"## [{name}]"
        yield _sentence(section)
        parameters = section.get_params()
        yield _table(
            ("setting", "type", "default", "description"),
            ((f"`{key}`", _type(each), _default(each), _words(each)) for key, each in parameters),
        )
    yield "## Of each task family"
    yield (
        "In a section named like the task: `attempts` at what fails for a transient reason, `time_limit` in seconds, "
        "`priority` (higher runs first). As `luigi.cfg` has them, or by default:"
    )
    yield _table(("task", *_OWN), ((f"`{family.__name__}`", *map(str, _own(family))) for family in _families()))
    yield "## Environment variables"
    secret = dict.fromkeys(settings.SECRETS, " A secret.")
    yield _table(
        ("variable", "what it is"),
        ((f"`{name}`", f"{words}.{secret.get(name, '')}") for name, words in settings.ENVIRONMENT.items()),
    )
    yield "## Luigi's own"
    yield "As `luigi.cfg` sets them, with the reasons beside them there; Luigi's documentation has the others."
    own = ((name, key, value) for name in _LUIGIS for key, value in _configured()[name].items())
    yield _table(("setting", "value"), ((f"`[{name}] {key}`", f"`{value}`") for name, key, value in own))


def _tasks() -> Iterator[str]:
    yield (
        "Each can be asked for by name: `luigi --module luigi_tasks InsertOhlcv --ticker AAPL`. Parameters in brackets "
        "do not make another task. Targets are those of AAPL as of 2026-11-20, under `var/`; how long a task may take "
        "and how often it tries is told in [settings.md](settings.md)."
    )
    for family in _families():
        yield f"## {family.__name__}"
        yield _sentence(family)
        shown = [(name, each) for name, each in family.get_params() if not isinstance(each, OfFamily)]
        yield _table(
            ("parameter", "type", "default", "description"),
            (
                (
                    f"`--{name.replace('_', '-')}`" if each.significant else f"(`--{name.replace('_', '-')}`)",
                    _type(each),
                    _default(each),
                    _words(each),
                )
                for name, each in shown
            ),
        )
        yield f"Target: {', '.join(_targets(family)) or 'those of what it requires or yields'}."


def _tables(database_url: str) -> Iterator[str]:
    yield "As the migrations make them. The `date` of a bar is the day where the exchange is."
    with engine_for(database_url).connect() as connection:
        looked = sa.inspect(connection)
        for name in schema.metadata.tables:
            yield f"## {name}"
            if comment := looked.get_table_comment(name)["text"]:
                yield f"{comment}."
            key = looked.get_pk_constraint(name)["constrained_columns"]
            yield f"Primary key: {', '.join(key)}."
            yield _columns(looked, name, nullable=True)
        for name in sorted(looked.get_view_names()):
            yield f"## {name} (view)"
            if comment := looked.get_table_comment(name)["text"]:
                yield f"{comment}."
            yield _columns(looked, name, nullable=False)
        for name, arguments, result, comment in connection.execute(sa.text(_FUNCTIONS)):
            yield f"## {name}({arguments})"
            yield f"{comment}."
            yield f"Returns `{result}`."


_FUNCTIONS = """
    SELECT proname, pg_get_function_arguments(oid), pg_get_function_result(oid), obj_description(oid, 'pg_proc')
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2
"""


def _columns(looked: Any, name: str, *, nullable: bool) -> str:
    headings = ("column", "type", "", "comment") if nullable else ("column", "type", "comment")
    return _table(
        headings,
        (
            (
                f"`{each['name']}`",
                each["type"].compile(dialect=postgresql.dialect()).lower(),
                *(("" if each["nullable"] else "not null",) if nullable else ()),
                each["comment"] or "",
            )
            for each in looked.get_columns(name)
        ),
    )


def _findings() -> Iterator[str]:
    yield (
        "A finding is what a person must do something about, or must know of to use the stored bars rightly. It stops "
        "nothing. In the report's JSON each is `{ticker, kind, gravity, finding}`, the gravest first, and "
        "`findings_by_kind` counts them: `{kind, gravity, count, tickers, words}`."
    )
    for gravity, name in findings.GRAVITIES.items():
        yield f"## {gravity}: {name}"
        rows = ((kind, each.words) for kind, each in findings.KINDS.items() if each.gravity == gravity)
        yield _table(("kind", "what it means, and what to do"), rows)
    yield (
        "A rule of the suite that is not among them is a kind of its own, `against 'RULE'`. Its gravity is 1 where it "
        "is about splits, dividends, adjusted closes or units, else 2 where its severity is `warning`, and 3 where it "
        "is `info`. Where a value is repaired it is 1."
    )


def _errors() -> Iterator[str]:
    yield (
        "What failed is kept in `task_failures` and grouped in the report by these kinds. A task tries a transient one "
        "again by itself, `attempts` times."
    )
    known: dict[str, type[BaseException]] = {error.kind: error for error in _every(SecuritiesMasterError)}
    yield _table(
        ("kind", "what happened", "", "what to do"),
        (
            (
                f"`{kind}`",
                _sentence(known[kind]).split(". ")[0].rstrip(".") if kind in known else "",
                "transient" if kind in known and issubclass(known[kind], TransientError) else "",
                remedy,
            )
            for kind, remedy in KINDS.items()
        ),
    )
    yield "## Exit codes"
    yield "Of `luigi --module luigi_tasks …`, and so of `./run.sh` with a run's options:"
    codes = {name: int(code) for name, code in _configured()["retcode"].items()}
    yield _table(
        ("code", "meaning"),
        (
            ("0", "all that was asked for is stored"),
            (
                f"{lifecycle.ALREADY_RUNNING}",
                "the same run is going on at the same database",
            ),
            (f"{codes['missing_data']}", "something that no task makes is not there"),
            (f"{codes['not_run']}", "luigid let some tasks wait for ever; run again"),
            (f"{codes['task_failed']}", "something failed; the report says what"),
            (
                f"{lifecycle.CANNOT_BEGIN}",
                "the run could not begin: an option, a setting, the database, luigid",
            ),
            (f"{codes['unhandled_exception']}", "the same, of what nobody foresaw"),
            (f"{lifecycle.REPORT_FAILED}", "the report could not be written"),
            (
                "129, 130, 143",
                "ended by the end of its terminal (SIGHUP; `nohup` prevents that), by Ctrl-C, by SIGTERM",
            ),
            ("138", "ended by SIGUSR1, after the tickers that it had begun; if these were the last, the code is 0"),
        ),
    )
    yield (
        "The other commands of `./run.sh` exit with 0, 1 for a failure that they name, or 2 for an unknown option. "
        f"`compare` exits with {comparing.DISAGREE} where bars disagree, or something that was asked for by name was "
        f"not compared, and with {comparing.NOTHING_COMPARED} where nothing could be."
    )


def _families() -> list[type[luigi.Task]]:
    """Ours, as far as they can be asked for by name."""
    names = sorted(name for name in Register.task_names() if name[0].isupper())
    families = [Register.get_task_cls(name) for name in names]
    # A family without a module of its own name is a base that others share.
    return [
        each for each in families if each.__module__ == f"luigi_tasks.tasks.{_snake(each.__name__)}" and _whole(each)
    ]


def _whole(family: type[luigi.Task]) -> bool:
    return not family.__subclasses__()


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _is_section(member: object) -> bool:
    return inspect.isclass(member) and issubclass(member, luigi.Config) and member.__module__ == settings.__name__


def _every(base: type[SecuritiesMasterError]) -> Iterator[type[SecuritiesMasterError]]:
    for error in base.__subclasses__():
        yield error
        yield from _every(error)


def _configured() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(__file__).parent.parent / "luigi.cfg", encoding="utf-8")
    return parser


def _own(family: type[luigi.Task]) -> Iterator[object]:
    """The family's attempts, time limit and priority; "" for what it has not."""
    parameters, section = dict(family.get_params()), family.__name__
    for name in _OWN:
        each = parameters.get(name)
        yield "" if each is None else _configured().get(section, name, fallback=str(each._default))


def _targets(family: type[luigi.Task]) -> Iterator[str]:
    parameters = dict(family.get_params())
    given: dict[str, Any] = {name: value for name, value in _SAMPLE.items() if name in parameters}
    if "date" in parameters:
        given["date"] = _DATE
    if family is DownloadQuotes:
        given["tickers"] = ("AAPL", "MSFT")
    chosen = settings.load()
    for target in luigi.task.flatten(family(**given).output()):
        if isinstance(target, FileTarget):
            path = target.path.relative_to(chosen.root)
            yield f"`{re.sub('-[0-9a-f]{12,16}', '-DIGEST', str(path))}`"
        else:
            yield f"a marker ({type(target).__name__}: {_sentence(type(target)).lower().rstrip('.')})"


def _type(parameter: luigi.Parameter[Any]) -> str:
    if isinstance(parameter, luigi.ChoiceParameter):
        return " or ".join(sorted(map(str, parameter._choices)))
    return next(words for kind, words in _TYPES.items() if isinstance(parameter, kind))


def _default(parameter: luigi.Parameter[Any]) -> str:
    value = parameter._default
    if isinstance(parameter, luigi.DateParameter) and value == today():
        return "today, in UTC"
    if value is luigi.parameter._no_value:
        return "needed"
    if value in ("", ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _words(parameter: luigi.Parameter[Any]) -> str:
    # Luigi adds the choices, which are its type here.
    return (parameter.description or "").partition(" Choices: ")[0]


def _sentence(documented: type) -> str:
    return " ".join((documented.__doc__ or "").split("\n\n")[0].split())


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(headings), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |" for line in lines
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
