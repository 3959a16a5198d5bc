"""Rows out of PostgreSQL by the million, as arrays: COPY in its binary format, without a Python object for each value.

A column has a fixed width and is never NULL, so that every row is as long as the next, and all of them are one
structured array that lies in the bytes as they were received.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

# How PostgreSQL sends them: big-endian; a date as days since 2000-01-01.
_WIDTHS = {"int8": ">i8", "float8": ">f8", "date": ">i4"}
_DAY_ZERO = np.datetime64("2000-01-01", "D")
# The signature, flags, and the length of an extension; at the end a count of fields of -1.
_HEADER, _TRAILER = 19, 2


def fetch(
    connection: sa.Connection, query: str, columns: Mapping[str, str], values: Mapping[str, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """The query's rows as one array a column: int64, float64, or datetime64[D].

    `columns` are those that the query selects, {name: int8, float8 or date}. `values` are for the query's %(name)s.

    Raises:
        ValueError: a value is NULL.
    """
    statement = f"COPY ({query}) TO STDOUT (FORMAT binary)"
    sink = io.BytesIO()
    cursor = connection.connection.cursor()
    try:
        cursor.copy_expert(cursor.mogrify(statement, dict(values)).decode(), sink)
    except Exception as error:
        # SQLAlchemy only translates what goes through it; the driver's own error carries the SQLSTATE.
        dialect = connection.dialect.dbapi
        if dialect is not None and isinstance(error, dialect.Error):
            raise DBAPIError.instance(statement, None, error, dialect.Error) from error
        raise
    finally:
        cursor.close()
    return _arrays(sink.getbuffer(), columns)


def _arrays(content: memoryview, columns: Mapping[str, str]) -> dict[str, np.ndarray[Any, Any]]:
    fields = [("fields", ">i2")]
    for name, kind in columns.items():
        fields += [(f"length of {name}", ">i4"), (name, _WIDTHS[kind])]
    rows = np.frombuffer(content[_HEADER:-_TRAILER], np.dtype(fields))
    if not (rows["fields"] == len(columns)).all():
        raise ValueError("a row has a NULL, or another column than was said")
    found = {name: rows[name].astype(rows[name].dtype.newbyteorder("=")) for name in columns}
    return {name: _DAY_ZERO + found[name] if kind == "date" else found[name] for name, kind in columns.items()}
