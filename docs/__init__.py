"""Pages for people, and `generate`, which writes those under `reference/` from the code."""
