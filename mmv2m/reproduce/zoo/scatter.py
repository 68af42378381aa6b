"""A scatter plot as SVG, drawn without any library."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ['Point', 'draw_scatter']

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 48
RADIUS = 4
CHARACTER = 6.0
"""Width of a name's character: no browser's sans-serif is wider on average."""

POSITIONS = (
    *((7, 3, 'start'), (-7, 3, 'end'), (0, -7, 'middle'), (0, 14, 'middle')),
    *((6, -5, 'start'), (6, 11, 'start'), (-6, -5, 'end'), (-6, 11, 'end')),
    *((6, -12, 'start'), (6, 18, 'start'), (-6, -12, 'end'), (-6, 18, 'end')),
)
"""Of a name beside its point, the preferred first."""


@dataclass(frozen=True)
class Point:
    """A point of a plot.

    Attributes:
        x: Positive.
        y: Any number.
        name: Shown when pointed at.
        kind: Picks the colour.
        own: Whether it is of our own runs: these are filled, printed ones are not.
    """

    x: float
    y: float
    name: str
    kind: str
    own: bool = False


def draw_scatter(
    points: Sequence[Point], colours: Mapping[str, str], x_label: str, y_label: str
) -> str:
    """An ``<svg>`` element; x is logarithmic.

    Args:
        points: At least one.
        colours: Colour of each kind.
        x_label: What x is.
        y_label: What y is.
    """
    xs, ys = [math.log10(p.x) for p in points], [p.y for p in points]
    x_range, y_range = _padded(xs), _padded(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / (y_range[1] - y_range[0])
        right, top = WIDTH - RIGHT - LEFT, HEIGHT - BOTTOM - TOP
        return round(LEFT + across * right, 1), round(HEIGHT - BOTTOM - up * top, 1)

    parts = [*_axes(x_label, y_label)]
    for x in _log_ticks(*x_range):
        place = at(x, y_range[0])[0]
        parts.append(f'<text x="{place}" y="{HEIGHT - BOTTOM + 16}" class="x">{x:g}</text>')
    for y in _ticks(*y_range):
        place = at(1, y)[1]
        parts.append(
            f'<path d="M{LEFT} {place}H{WIDTH - RIGHT}" class="grid"/>'
            f'<text x="{LEFT - 6}" y="{place + 4}" class="y">{y:g}</text>'
        )
    places = [at(p.x, p.y) for p in points]
    labels = _place_labels(places, [p.name for p in points])
    parts += [
        _marker(point, place, label, colours[point.kind])
        for point, place, label in zip(points, places, labels, strict=True)
    ]
    label = escape(f'{y_label} over {x_label}')
    body = '\n'.join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n{body}\n</svg>'


def _axes(x_label: str, y_label: str) -> Iterator[str]:
    yield f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" class="axis"/>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 8}" class="x">{escape(x_label)}</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield (
        f'<text x="14" y="{middle}" class="x" transform="rotate(-90 14 {middle})">'
        f'{escape(y_label)}</text>'
    )


@dataclass(frozen=True)
class Label:
    """Where a point's name stands: its anchor, which side of it that is, and the box it fills."""

    x: float
    y: float
    anchor: str
    box: tuple[float, float, float, float]


def _place_labels(places: Sequence[tuple[float, float]], names: Sequence[str]) -> list[Label]:
    """Put each name beside its point where it covers the least of points and other names."""
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in places]
    labels = []
    for (x, y), name in zip(places, names, strict=True):
        candidates = [_label(x + dx, y + dy, anchor, name) for dx, dy, anchor in POSITIONS]
        labels.append(min(candidates, key=lambda label: _covered(label.box, taken)))
        taken.append(labels[-1].box)
    return labels


def _label(x: float, y: float, anchor: str, name: str) -> Label:
    width = CHARACTER * len(name)
    left = x - dict(start=0.0, middle=0.5, end=1.0)[anchor] * width
    return Label(round(x, 1), round(y, 1), anchor, (left, y - 8, left + width, y + 2))


def _covered(
    box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]
) -> float:
    """Area of a box that others take, or that lies outside of the plot."""
    left, top, right, bottom = box
    area = 0.0
    for other in taken:
        width = min(right, other[2]) - max(left, other[0])
        height = min(bottom, other[3]) - max(top, other[1])
        area += max(width, 0) * max(height, 0)
    outside = max(LEFT - left, 0) + max(right - WIDTH, 0) + max(bottom - HEIGHT + BOTTOM, 0)
    return area + 10 * outside


def _marker(point: Point, place: tuple[float, float], label: Label, colour: str) -> str:
    fill = colour if point.own else 'none'
    title = escape(f'{point.name}: {point.y:g} at {point.x:.3g}{"" if point.own else " (printed)"}')
    return (
        f'<g><circle cx="{place[0]}" cy="{place[1]}" r="{RADIUS}" stroke="{colour}" fill="{fill}"/>'
        f'<text x="{label.x}" y="{label.y}" class="name" text-anchor="{label.anchor}">'
        f'{escape(point.name)}</text><title>{title}</title></g>'
    )


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or 0.5
    return low - margin, high + margin


def _ticks(low: float, high: float, steps: int = 5) -> list[float]:
    """Round numbers in a range, not more than ``steps`` and one."""
    rough = (high - low) / steps
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(step * i, 10) for i in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, or in a short range that has few of these, round numbers.

    ``low`` and ``high`` are logarithms.
    """
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
    return ticks if len(ticks) >= 4 else _ticks(10**low, 10**high, steps=8)
