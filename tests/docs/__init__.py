"""Tests of the documentation: it is what the code says, and what it tells to run can be run."""
