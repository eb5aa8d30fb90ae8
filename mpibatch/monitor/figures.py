"""Numbers and names as people read them: 1,234 items, 12.3k rows/s, 2 min 05 s, odd bytes spelled out."""

from __future__ import annotations

import math
import re

_UNFIT_FOR_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (a name may hold an escape sequence), what turns the direction of text, surrogates."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 item`, `1,234 items`; `many` where an s does not make the plural."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def mini_batches(number: int) -> str:
    return counted(number, "mini-batch", "mini-batches")


def rate(per_s: float, unit: str) -> str:
    """`0.017 rows/s`, `4.2 rows/s`, `850 rows/s`, `12.3k rows/s`."""
    return f"{_magnitude(per_s)} {unit}/s"


def _magnitude(value: float) -> str:
    if not math.isfinite(value) or value <= 0:
        return "0"
    if value < 0.0995:
        return f"{max(value, 0.001):.3f}"
    if value < 9.95:
        return f"{value:.1f}"
    if value < 999.5:
        return f"{value:.0f}"
    # The limits are where rounding would give 1000.0 of the smaller unit.
    for divisor, letter in ((1e3, "k"), (1e6, "M")):
        if value < 999.95 * divisor:
            return f"{value / divisor:.1f}{letter}"
    return f"{value / 1e9:,.1f}G"


def duration(seconds: float) -> str:
    """`4.2 s`, `42 s`, `2 min 05 s`, `3 h 07 min`, `2 d 03 h`."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24:,} d {hours % 24:02} h"


def percent(part: int, whole: int) -> str:
    """Rounded down, so that 100 % is said of all only."""
    return f"{100 * part // whole if whole else 100} %"


def shown(text: str) -> str:
    """`text` fit for one line of a terminal: bytes that are no text and control characters as `\\xff`."""
    return _UNFIT_FOR_A_LINE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # A byte that os.fsdecode could not read.
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str, limit: int = 300) -> str:
    """An error's text on one line, cut where it is very long: its log has all of it."""
    line = shown(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."
