"""Tests of luigi_tasks.targets."""
