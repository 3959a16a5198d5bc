"""Tests of luigi_tasks.market."""
