"""Who may do what in the database: a role to write with, which owns nothing, and a role that only reads.

Both are groups without a login or a password: an administrator grants them to the users that log in. What is granted
goes for the whole schema and for what later migrations add to it; the two exceptions are named here.
"""

from __future__ import annotations

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, migrate, transaction
from luigi_tasks.errors import ConfigurationError, DatabaseRefused

# Which version the tables have is for their owner to say. The session with the provider is of no use to who reads, and
# is one.
_STATEMENTS = """
REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC;
REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;

REVOKE ALL ON DATABASE {database} FROM {writer}, {reader};
REVOKE ALL ON SCHEMA {schema} FROM {writer}, {reader};
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {writer}, {reader};
REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {writer}, {reader};
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM {writer}, {reader};

GRANT CONNECT ON DATABASE {database} TO {writer}, {reader};
GRANT TEMPORARY ON DATABASE {database} TO {writer};
GRANT USAGE ON SCHEMA {schema} TO {writer}, {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {writer}, {reader};
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {writer};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {writer}, {reader};
REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {writer};
REVOKE ALL ON provider_access FROM {reader};

ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {writer}, {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT INSERT, UPDATE, DELETE ON TABLES TO {writer};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT EXECUTE ON FUNCTIONS TO {writer}, {reader};
"""

_PLACE = """
    SELECT current_database() AS database, current_schema() AS schema, pg_get_userbyid(relowner) AS owner
    FROM pg_class WHERE oid = 'securities'::regclass
"""
_KNOWN = "SELECT pg_has_role(rolname, CAST(:owner AS name), 'MEMBER') FROM pg_roles WHERE rolname = :role"


def grant(database_url: str, writer: str, reader: str) -> str:
    """Make the two roles, or bring what they may do to exactly what is needed; returns the tables' owner.

    The tables are brought to this version's schema first.

    Raises:
        ConfigurationError: the two are one, or one of them may do everything anyway.
        DatabaseRefused: who asks neither owns the tables nor may make roles; nothing is changed.
    """
    engine = engine_for(database_url)
    migrate(engine)
    quote = engine.dialect.identifier_preparer.quote_identifier
    with transaction(engine, "roles") as connection:
        place = connection.execute(sa.text(_PLACE)).one()
        if writer == reader:
            raise ConfigurationError(f"role {writer!r}", "is to write, and only to read", "Name two.")
        for role in (writer, reader):
            everything = connection.scalar(sa.text(_KNOWN), {"role": role, "owner": place.owner})
            if everything:
                raise ConfigurationError(
                    f"role {role!r}", f"may do all that {place.owner!r} may, the tables' owner", "Name another."
                )
            if everything is None:
                connection.execute(sa.text(f"CREATE ROLE {quote(role)} NOLOGIN"))
        names = {**place._asdict(), "writer": writer, "reader": reader}
        connection.exec_driver_sql(_STATEMENTS.format(**{name: quote(value) for name, value in names.items()}))
        for role in (writer, reader):
            if connection.scalar(sa.select(sa.func.has_schema_privilege(role, place.schema, "CREATE"))):
                raise DatabaseRefused(
                    f"schema {place.schema!r}",
                    f"everybody may create tables in it, which {place.owner!r} cannot change",
                    f"As a superuser: REVOKE CREATE ON SCHEMA {quote(place.schema)} FROM PUBLIC.",
                )
    return str(place.owner)
