"""Fractions as points, hundredths of accuracy."""


def to_points(fraction: float | None) -> float | None:
    """Return a fraction (-1 to 1) in points; None stays None."""
    return None if fraction is None else 100 * fraction


def format_points(*fractions: float | None) -> list[str]:
    """Format fractions as signed points; None is left out.

    All have the same number of decimals, 1-3: the fewest with which no number but 0 looks like 0.
    """
    points = [100 * fraction for fraction in fractions if fraction is not None]
    decimals = next((d for d in (1, 2) if all(not point or abs(point) >= 0.5 * 10**-d for point in points)), 3)
    return [f"{point:+.{decimals}f}" if round(point, decimals) else "0.0" for point in points]
