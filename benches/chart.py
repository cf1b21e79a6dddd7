"""Line charts as SVG, by hand: points, axes with round numbers, a legend; for light and dark pages."""

import math
from xml.sax.saxutils import escape

COLOURS = ("#3b75af", "#d9822b", "#4f9d52", "#b6494c", "#8a6cb0", "#8c6d5a")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 64, 16, 40, 52


def ticks(low, high, about=6):
    """Round numbers from low to high."""
    raw = (high - low) / about or 1.0
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(title, x_label, y_label, series):
    """`series`: {name: [(x, y), ...]}. Returns the SVG as text."""
    points = [point for line in series.values() for point in line]
    spans = []
    for values in zip(*points):
        low, high = min(values), max(values)
        pad = (high - low or 1) * 0.05
        spans.append((low - pad, high + pad))
    (x_low, x_high), (y_low, y_high) = spans
    x_at = lambda x: LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    y_at = lambda y: HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)  # noqa: E731
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{escape(title)}</text>',
    ]
    for x in ticks(x_low, x_high):
        out.append(
            f'<path d="M{x_at(x):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#dddddd"/>'
            f'<text x="{x_at(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>'
        )
    for y in ticks(y_low, y_high):
        out.append(
            f'<path d="M{LEFT} {y_at(y):.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
            f'<text x="{LEFT - 8}" y="{y_at(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
        )
    across, down = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    out.append(
        f'<text x="{across}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(16 {down}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = "L".join(f"{x_at(x):.1f} {y_at(y):.1f}" for x, y in sorted(line))
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        y = HEIGHT - BOTTOM - 14 - 18 * (len(series) - 1 - number)
        out.append(
            f'<path d="M{WIDTH - RIGHT - 170} {y - 4}h24" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{WIDTH - RIGHT - 140}" y="{y}">{escape(name)}</text>'
        )
    return "\n".join([*out, "</svg>", ""])
