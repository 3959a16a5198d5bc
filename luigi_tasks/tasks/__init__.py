"""Luigi, and only Luigi: one task family a file. What a task does stands in the rooms below."""
