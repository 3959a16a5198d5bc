"""Tests of luigi_tasks.quality."""
