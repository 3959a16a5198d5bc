"""Runs that are killed, again and again, at moments drawn at random, and what has to hold all the same.

`./run.sh crashes --times 200 --seed 7` repeats what a seed did, as far as processes can be timed.
"""
