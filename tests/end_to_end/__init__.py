"""Whole runs: real `luigi` processes with 20 workers, luigid, PostgreSQL."""
