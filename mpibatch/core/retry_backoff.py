"""How long a mini-batch that has failed waits for its next try: for servers and file systems that recover. Pure."""

from __future__ import annotations

import msgspec

_SPREAD = 2654435761
"""A multiplier that scatters neighbouring numbers over 32 bits (Knuth, TAOCP 3, section 6.4)."""


class RetryBackoff(msgspec.Struct, frozen=True, kw_only=True):
    """The waiting time grows by `factor` with each failure of a mini-batch, from `initial` up to `max` seconds."""

    initial: float = 1.0
    factor: float = 2.0
    max: float = 60.0
    jitter: bool = True
    """Spread the waiting times between half of them and all, so that not all that failed together returns so."""

    def delay_s(self, mini_batch: int, failures: int) -> float:
        """Seconds before the next try, after so many failures (at least 1). The same for the same numbers."""
        # The exponent is limited, as a float overflows beyond it, far above any `max`.
        delay_s = min(self.max, self.initial * self.factor ** min(failures - 1, 64))
        if not self.jitter:
            return delay_s
        scattered = ((mini_batch + 1) * _SPREAD + failures * 40503) % 2**32 / 2**32
        return delay_s * (0.5 + scattered / 2)
