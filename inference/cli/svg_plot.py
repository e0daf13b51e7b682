"""Latency over the offered rate as a picture that needs nothing else: SVG drawn by hand, alone or inside a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, inf, log10

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 56, 48
COLOURS = ("#1b6ca8", "#d98324", "#a63d40")
GOAL_COLOUR = "#5a5a5a"
FONT = "font-family='system-ui, sans-serif' font-size='12'"
TICKS_MAX = 6


@dataclass(frozen=True)
class Curve:
    """A line with its name: latency in ms at each rate; an infinite one is left out."""

    name: str
    points: tuple[tuple[float, float], ...]


def latency_plot(title: str, curves: Sequence[Curve], goal_ms: float, capacity_s: float) -> str:
    """The SVG: latency (logarithmic) over the offered rate, the goal as a line across, the capacity as one upward."""
    seen = [ms for curve in curves for _, ms in curve.points if 0 < ms < inf]
    rates = [rate for curve in curves for rate, _ in curve.points]
    low, high = floor(log10(min([*seen, goal_ms]))), ceil(log10(max([*seen, goal_ms]) * 1.01))
    right = max([*rates, capacity_s, 1.0])

    def x(rate_s: float) -> float:
        return LEFT + rate_s / right * (WIDTH - LEFT - RIGHT)

    def y(ms: float) -> float:
        return HEIGHT - BOTTOM - (log10(ms) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {FONT}>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>",
        _text(LEFT, 20, title, "font-weight='600'"),
        *_grid(x, y, right, low, high),
        _line(x(0), y(goal_ms), x(right), y(goal_ms), f"stroke='{GOAL_COLOUR}' stroke-dasharray='6 4'"),
        _text(x(0) + 6, y(goal_ms) - 5, f"goal {goal_ms:g} ms", f"fill='{GOAL_COLOUR}'"),
    ]
    if capacity_s > 0:
        parts.append(_line(x(capacity_s), y(10**low), x(capacity_s), y(10**high), f"stroke='{GOAL_COLOUR}'"))
        label = f"{capacity_s:,.0f} requests/s"
        parts.append(_text(x(capacity_s) - 5, TOP + 12, label, f"text-anchor='end' fill='{GOAL_COLOUR}'"))
    for place, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        parts += _curve(curve, colour, x, y)
        parts.append(f"<rect x='{LEFT + 90 * place}' y='30' width='12' height='12' fill='{colour}'/>")
        parts.append(_text(LEFT + 90 * place + 17, 40, curve.name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def page(title: str, svg: str, text: str) -> str:
    """An HTML page with the picture and the table under it, and nothing from elsewhere."""
    return (
        f"<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>{escape(title)}</title>\n"
        f"<body>\n{svg}<pre>{escape(text)}</pre>\n</body></html>\n"
    )


def _grid(x: Callable[[float], float], y: Callable[[float], float], right: float, low: int, high: int) -> list[str]:
    """Lines at the powers of ten of the latency and at round rates, with their names."""
    parts = []
    for power in range(low, high + 1):
        parts.append(_line(x(0), y(10**power), x(right), y(10**power), "stroke='#e4e4e4'"))
        parts.append(_text(LEFT - 8, y(10**power) + 4, f"{10**power:g}", "text-anchor='end'"))
    step = round_step(right)
    marks = [number * step for number in range(int(right / step) + 1)]
    parts += [_text(x(rate), HEIGHT - BOTTOM + 18, f"{rate:,g}", "text-anchor='middle'") for rate in marks]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "requests/s offered", "text-anchor='middle'"))
    parts.append(_text(8, TOP - 8, "latency, ms"))
    return parts


def round_step(right: float) -> float:
    """1, 2 or 5 times a power of ten, so that at most six steps reach `right`."""
    power = 10.0 ** floor(log10(right / TICKS_MAX))
    return next(factor * power for factor in (1, 2, 5, 10) if right / (factor * power) <= TICKS_MAX)


def _curve(curve: Curve, colour: str, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    places = [(x(rate), y(ms)) for rate, ms in sorted(curve.points) if 0 < ms < inf]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    dots = [f"<circle cx='{a:.1f}' cy='{b:.1f}' r='3' fill='{colour}'/>" for a, b in places]
    return [f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='2'/>", *dots]


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' {style}/>"


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"
