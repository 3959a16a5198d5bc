"""The test suite's own Yahoo Finance, on the loopback interface."""
