"""How often a security is traded, by its last bars: whether a session may have passed without a trade of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

_VOLUME_OF_A_TRADE = 300
# So many trades that are expected and do not come have a probability of less than 1 in 1,000: exp(-7).
_UNLIKELY = 7.0
_THIN, _THIN_TRADES = 0.1, 200.0


def may_be(volumes: Sequence[float], flat: Sequence[bool], share: float = 1.0) -> bool:
    """Whether a security may have no trade in this share of a session, from 0 to 1.

    Of its last bars, the volumes (shares; NaN where not known), and which of them have one price for open, high, low
    and close.
    """
    known = [volume for volume in volumes if not math.isnan(volume)]
    if not flat or not known:
        return True
    still = sum(same or not volume > 0 for same, volume in zip(flat, volumes, strict=True)) / len(flat)
    trades = median(known) / _VOLUME_OF_A_TRADE
    return (still >= _THIN and trades < _THIN_TRADES) or trades * share < _UNLIKELY
