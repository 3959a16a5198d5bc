"""TLS to PostgreSQL is as strict as DATABASE_URL says, for runs and for psql.

The embedded server is built without TLS. So a real one stands behind a front that speaks TLS as PostgreSQL does, like
a pooler; the client's half, which is what this is about, is libpq's own.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
import trustme

from luigi_tasks.database import engine as db
from luigi_tasks.database.engine import engine_for, libpq_environment
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import DatabaseRefused
from tests.conftest import make_bars
from tests.workspace import Workspace

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
PSQL = """#!{python}
# What psql does first: connect as the environment says, by libpq.
import psycopg2
connection = psycopg2.connect("")
print(connection.info.dbname, "over TLS" if connection.info.ssl_in_use else "in the clear")
"""


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Front:
    """Takes TLS connections on a port of this machine and hands what comes to a Unix socket."""

    def __init__(self, context: ssl.SSLContext, behind: Path) -> None:
        self._context, self._behind = context, behind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError), socket.socket(socket.AF_UNIX) as server:
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                return  # it wants no TLS
            client.sendall(b"S")
            server.connect(str(self._behind))
            with self._context.wrap_socket(client, server_side=True) as encrypted:
                back = threading.Thread(target=pump, args=(server, encrypted), daemon=True)
                back.start()
                pump(encrypted, server)
                back.join()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Path]:
    """{"right": the authority's certificate, "wrong": that of another one}."""
    made = {"right": tmp_path / "right.pem", "wrong": tmp_path / "wrong.pem"}
    trustme.CA().cert_pem.write_to_path(str(made["wrong"]))
    return made


@pytest.fixture
def tls_url(empty_database_url: str, certificates: dict[str, Path]) -> Iterator[str]:
    """URL of an empty database that is reached by TLS alone, with a certificate for the name localhost."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(certificates["right"]))
    url = db.normalised_url(empty_database_url)
    front = Front(context, Path(str(url.query["host"])) / ".s.PGSQL.5432")
    made = url.set(host="localhost", port=front.port, query={}, password=None).render_as_string()
    yield made
    engine_for.cache_clear()
    front.close()


def test_a_connection_is_encrypted_and_the_server_proves_its_name(tls_url: str, certificates: dict[str, Path]) -> None:
    url = f"{tls_url}?sslmode=verify-full&sslrootcert={certificates['right']}"

    Ledger(url).migrate()

    with engine_for(url).connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        assert raw.info.ssl_in_use


@pytest.mark.parametrize(
    ("host", "certificate", "mode", "words"),
    [
        ("localhost", "wrong", "verify-full", "certificate verify failed"),
        ("localhost", "wrong", "verify-ca", "certificate verify failed"),
        (
            "localhost",
            "wrong",
            "require",
            "certificate verify failed",
        ),  # libpq's way, where there is a root certificate
        ("127.0.0.1", "right", "verify-full", 'does not match host name "127.0.0.1"'),
        ("localhost", "absent", "verify-full", "root certificate file .* does not exist"),
    ],
)
def test_a_server_that_proves_nothing_is_refused(
    tls_url: str, certificates: dict[str, Path], host: str, certificate: str, mode: str, words: str
) -> None:
    root = certificates.get(certificate, "/nowhere.pem")
    url = f"{tls_url.replace('localhost', host)}?sslmode={mode}&sslrootcert={root}"

    with pytest.raises(DatabaseRefused, match=words):
        Ledger(url).answers()


def test_a_server_without_tls_is_refused_where_tls_is_required() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def say_no() -> None:
            client, _ = listener.accept()
            with closing(client):
                client.recv(8)
                client.sendall(b"N")
                client.recv(1)

        thread = threading.Thread(target=say_no)
        thread.start()
        with pytest.raises(DatabaseRefused, match="server does not support SSL, but SSL was required"):
            Ledger(f"postgresql://me@127.0.0.1:{listener.getsockname()[1]}/db?sslmode=require").answers()
        thread.join()


def test_a_run_and_psql_go_by_tls_where_the_url_says_so(
    workspace: Workspace, tls_url: str, certificates: dict[str, Path]
) -> None:
    program = workspace.folder / "bin/psql"
    program.parent.mkdir()
    program.write_text(PSQL.format(python=sys.executable))
    program.chmod(0o755)
    environment = workspace.env()
    workspace.environment["PATH"] = f"{program.parent}:{environment['PATH']}"
    workspace.database_url = f"{tls_url}?sslmode=verify-full&sslrootcert={certificates['right']}"
    workspace.use_files({"AAA": make_bars()})

    run = workspace.run("--date", "2024-03-15", "--years-back", "1")
    psql = workspace.command("psql")
    workspace.database_url = workspace.database_url.replace("right.pem", "wrong.pem")
    refused = workspace.command("psql")

    assert run.code == 0, run
    assert psql.stdout == f"{db.normalised_url(tls_url).database} over TLS\n", psql.stderr
    assert "certificate verify failed" in refused.stderr


def test_the_embedded_servers_psql_says_that_it_knows_no_tls(workspace: Workspace) -> None:
    workspace.environment["PATH"] = "/nowhere"
    workspace.database_url = "postgresql://me:s3cret@127.0.0.1:1/db?sslmode=verify-full"

    psql = workspace.command("psql")

    assert psql.returncode == 1
    assert psql.stderr.strip() == (
        "error: psql: there is only the embedded server's, which knows no TLS, and DATABASE_URL has "
        "sslmode=verify-full. Install PostgreSQL's own (Debian: apt-get install postgresql-client)."
    )


def test_every_option_of_the_url_has_its_variable() -> None:
    options = (
        "sslmode=verify-ca&sslrootcert=r&sslcert=c&sslkey=k&sslcrl=l&sslnegotiation=direct&channel_binding=require"
        "&ssl_min_protocol_version=TLSv1.3&passfile=p&target_session_attrs=any&connect_timeout=9&application_name=a"
        "&options=-cx%3Dy&gssencmode=disable"
    )

    assert libpq_environment(f"postgres://me:s3cret@one:1/db?{options}") == {
        "PGHOST": "one",
        "PGPORT": "1",
        "PGUSER": "me",
        "PGPASSWORD": "s3cret",
        "PGDATABASE": "db",
        "PGSSLMODE": "verify-ca",
        "PGSSLROOTCERT": "r",
        "PGSSLCERT": "c",
        "PGSSLKEY": "k",
        "PGSSLCRL": "l",
        "PGSSLNEGOTIATION": "direct",
        "PGCHANNELBINDING": "require",
        "PGSSLMINPROTOCOLVERSION": "TLSv1.3",
        "PGPASSFILE": "p",
        "PGTARGETSESSIONATTRS": "any",
        "PGCONNECT_TIMEOUT": "9",
        "PGAPPNAME": "a",
        "PGOPTIONS": "-cx=y",
        "PGGSSENCMODE": "disable",
    }
    several = libpq_environment("postgres://me@/db?host=one:1&host=two:2")
    assert (several["PGHOST"], several["PGPORT"]) == ("one,two", "1,2")


def test_the_options_of_the_url_reach_the_server(emptied_url: str) -> None:
    with engine_for(f"{emptied_url}&options=-cwork_mem%3D7MB").connect() as connection:
        assert connection.scalar(sa.text("SHOW work_mem")) == "7MB"
        assert connection.scalar(sa.text("SHOW timezone")) == "UTC"
