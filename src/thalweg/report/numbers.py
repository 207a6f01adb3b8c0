"""Numbers as people read them: counts, lengths of time, bytes. Pure text, no torch."""

import math

__all__ = ["bytes_text", "count_text", "duration_text", "number_text", "percent_text", "rate_text"]

MISSING = "\N{EN DASH}"
_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def number_text(value: float, digits: int = 4) -> str:
    """Return a number with a fixed number of decimals, or a dash when it is not finite.

    Example:
        >>> number_text(1.23456), number_text(0.0003)
        ('1.2346', '3.000e-04')
    """
    if not math.isfinite(value):
        return MISSING
    if value != 0 and abs(value) < 10.0 ** (1 - digits):
        return f"{value:.3e}"
    return f"{value:.{digits}f}"


def count_text(value: float) -> str:
    """Return a count in three digits and a scale: k, M, B (1e9), T (1e12).

    Example:
        >>> count_text(999), count_text(1_234_567), count_text(999_999)
        ('999', '1.23 M', '1.00 M')
    """
    if not math.isfinite(value):
        return MISSING
    for scale, letter in _SCALES:
        if abs(value) >= 0.9995 * scale and (scale > 1e3 or abs(value) >= 1e4):
            return f"{_three(value / scale)} {letter}"
    return f"{value:,.0f}"


def rate_text(value: float) -> str:
    """Return a rate compactly: three digits and a scale without a space.

    Example:
        >>> rate_text(512.4), rate_text(12_345.0)
        ('512', '12.3k')
    """
    return count_text(value).replace(" ", "")


def percent_text(value: float, digits: int = 1) -> str:
    """Return a share (0 to 1) as a percentage.

    Example:
        >>> percent_text(0.4137)
        '41.4 %'
    """
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else MISSING


def bytes_text(value: float) -> str:
    """Return a size in MiB or GiB.

    Example:
        >>> bytes_text(3 * 2**30)
        '3.00 GiB'
    """
    if not math.isfinite(value):
        return MISSING
    if value >= 2**30:
        return f"{_three(value / 2**30)} GiB"
    return f"{value / 2**20:.0f} MiB"


def duration_text(seconds: float) -> str:
    """Return a length of time in its two largest units.

    Example:
        >>> duration_text(42), duration_text(83), duration_text(4980)
        ('42 s', '1 min 23 s', '1 h 23 min')
    """
    if not math.isfinite(seconds):
        return MISSING
    if 0 < seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, small, low in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // small} {low}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def _three(value: float) -> str:
    whole = len(f"{abs(value):.0f}")
    return f"{value:.{max(0, 3 - whole)}f}"
