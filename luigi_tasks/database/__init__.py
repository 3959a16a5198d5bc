"""PostgreSQL: the schema and its migrations, securities and bars, the ledger of what was done, the embedded server."""
