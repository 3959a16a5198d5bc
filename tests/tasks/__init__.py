"""Tests of luigi_tasks.tasks."""
