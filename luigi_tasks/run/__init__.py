"""A run, from the first task to the report: what is no task, and what every task of the run may use."""
