"""Tests of luigi_tasks.report."""
