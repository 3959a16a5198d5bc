"""Whether bars are fit to be stored: the Great Expectations suite, its verdict, and what is quarantined."""
