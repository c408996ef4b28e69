"""Format differences as points, hundredths of accuracy, and p-values."""


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


def format_p(p: float) -> str:
    """Format a p-value with two decimals, three below 0.1, so that it is clear on which side of 0.05 it is."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
