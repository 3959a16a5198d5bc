"""Tests of luigi_tasks.database."""
