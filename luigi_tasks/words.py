"""What a report, a plan and a terminal's line say alike."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """In the two largest units that there are: 45 s, 8 min 59 s, 2 h, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    told = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in told if number) or "0 s"
