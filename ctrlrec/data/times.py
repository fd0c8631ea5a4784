"""Timestamps: dates, and numbers in units that a file does not name."""

from typing import Any

import polars as pl

EXPECTED_TIME = "seconds, milli-, micro- or nanoseconds since 1970, or dates of ISO 8601 (2018-06-17T09:30:00Z)"
_SECOND = 1_000_000
_DATE_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f%#z", "%m %d, %Y",
)  # fmt: skip
# Sizes of numbers, each read in a unit of its own: seconds, milli-, micro- and nanoseconds. Below 1e11 seconds lies the
# year 5138.
_DATE, _SECONDS, _MILLISECONDS, _MICROSECONDS, _NANOSECONDS = range(5)
_MICROSECONDS_OF = {_SECONDS: _SECOND, _MILLISECONDS: 1000, _MICROSECONDS: 1}
_ERA = (100_000_000 * _SECOND, 4_102_444_800 * _SECOND)  # 1973 to 2100: when people met the items of a log
_UNIT = pl.UInt8


def read_times(stamps: pl.Series) -> pl.DataFrame:
    """Read timestamps.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970 by their size, which
    :func:`settle_units` revises. Dates are ISO 8601 with or without time and zone (UTC without one), or "06 17, 2018".

    Args:
        stamps: text, numbers or dates.

    Returns:
        Columns timestamp (int64 microseconds; null if the value is neither a number nor a date) and unit (by size).
    """
    if isinstance(stamps.dtype, pl.Date | pl.Datetime):
        moments = stamps.cast(pl.Datetime("us")).dt.timestamp("us").alias("timestamp")
        return pl.DataFrame([moments]).with_columns(pl.lit(_DATE, _UNIT).alias("unit"))
    if stamps.dtype == pl.String:
        stamps = stamps.str.strip_chars().str.replace("T", " ", literal=True)
    whole, real = stamps.cast(pl.Int64, strict=False), stamps.cast(pl.Float64, strict=False)
    dates = whole.clear(len(stamps))
    if stamps.dtype == pl.String:
        for form in _DATE_FORMATS:
            if (real.is_null() & dates.is_null() & stamps.is_not_null()).any():
                dates = dates.fill_null(stamps.str.to_datetime(form, time_unit="us", strict=False).dt.timestamp("us"))
    frame = pl.DataFrame({"whole": whole, "real": real, "date": dates})
    # The lowest integer is how pandas writes no time at all.
    number, fraction = pl.col("whole").replace(-(2**63), None), pl.col("real")
    exact = number.is_not_null() & (stamps.dtype.is_integer() | (number == fraction))
    size = pl.when(exact).then(number.abs().cast(pl.Float64)).otherwise(fraction.abs())
    unit = (
        pl.when(size < 1e11).then(_SECONDS)
        .when(size < 1e14).then(_MILLISECONDS)
        .when(size < 1e17).then(_MICROSECONDS)
        .when(size < 2.0**63).then(_NANOSECONDS)
        .otherwise(_DATE).cast(_UNIT)
    )  # fmt: skip
    frame = frame.with_columns(unit.alias("unit"), exact.alias("exact"))
    unit, exact = pl.col("unit"), pl.col("exact")
    return frame.select(
        pl.when(exact).then(
            pl.when(unit == _SECONDS).then(number * _SECOND)
            .when(unit == _MILLISECONDS).then(number * 1000)
            .when(unit == _MICROSECONDS).then(number)
            .otherwise(number // 1000)
        )
        .when(unit == _SECONDS).then((fraction * _SECOND).cast(pl.Int64, strict=False))
        .when(unit == _MILLISECONDS).then((fraction * 1000).cast(pl.Int64, strict=False))
        .when(unit == _MICROSECONDS).then(fraction.cast(pl.Int64, strict=False))
        .when(unit == _NANOSECONDS).then((fraction / 1000).cast(pl.Int64, strict=False))
        .otherwise(pl.col("date"))
        .alias("timestamp"),
        unit,
    )  # fmt: skip


def settle_units(times: pl.DataFrame) -> tuple[pl.Series, dict[str, Any]]:
    """Read all numbers of a file in one unit if their sizes do not tell their units.

    Numbers of one size are in one unit anyway. Numbers of several sizes are dates in several units (logs of two systems
    in one file) if most of every size lie between 1973 and 2100. Otherwise they are not dates but, say, microseconds
    since a session began, some of them large: reading each by its size would put them out of order.

    Args:
        times: of a whole file, as :func:`read_times` gives it, without nulls.

    Returns:
        The timestamps, int64, and for the data card ``first`` and ``last`` date, both None if only their order counts.
    """
    moment, unit = pl.col("timestamp"), pl.col("unit")
    numbers = times.filter((unit != _DATE) & (moment != 0))
    sizes = numbers.group_by("unit").agg(moment.is_between(*_ERA).mean().alias("dated")).sort("unit")
    dated = bool((sizes["dated"] >= 0.5).all())
    if not dated and len(sizes) > 1 and not (times["unit"] == _DATE).any():
        common = _MICROSECONDS_OF.get(sizes["unit"].to_list()[-1], 1)  # a unit of the file as the most that int64 holds
        settled = moment * 1000  # nanoseconds
        for size, scale in _MICROSECONDS_OF.items():
            scaled = moment * max(common // scale, 1) // max(scale // common, 1)
            settled = pl.when(unit == size).then(scaled).otherwise(settled)
        times = times.with_columns(settled.alias("timestamp"))
    dates = times["timestamp"].filter(times["timestamp"].is_between(*_ERA)) if dated else times["timestamp"].clear()
    ends = pl.Series([dates.min(), dates.max()], dtype=pl.Datetime("us")).dt.date().cast(pl.String).to_list()
    return times["timestamp"], dict(zip(("first", "last"), ends, strict=True))
