"""Measured against predicted as a picture: one panel a metric, both axes logarithmic, coloured by accelerator.

Plain SVG in a page that needs nothing else: points show what they are when pointed at, and accelerators can be hidden.
"""

from __future__ import annotations

import colorsys
import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from sim.fidelity.points import KINDS
from sim.fidelity.validation import Compared, Validation, weighted_quantile

_PANEL, _MARGIN, _TOP = 360, 56, 28
_UNITS: Mapping[str, tuple[str, float]] = {
    "throughput": ("throughput [per s and accelerator]", 1.0),
    "tpot": ("time per output token [ms]", 1e3),
    "e2e": ("end-to-end latency [s]", 1.0),
    "ttft": ("time to first token [ms]", 1e3),
}
_LEGEND_ROW, _LEGEND_COLUMN = 18, 150


def parity_picture(validation: Validation) -> str:
    """Return all panels with their legend as one SVG that needs nothing else."""
    colours = colours_of(validation.compared)
    panels = [kind for kind in KINDS if any(each.metric == kind for each in validation.compared)]
    width = 2 * (_PANEL + _MARGIN + 16)
    rows = math.ceil(len(panels) / 2)
    per_row = max(1, width // _LEGEND_COLUMN)
    legend_height = _LEGEND_ROW * math.ceil(len(colours) / per_row) + 12
    height = rows * (_PANEL + _TOP + _MARGIN) + legend_height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for position, kind in enumerate(panels):
        across, down = (position % 2) * (_PANEL + _MARGIN + 16), (position // 2) * (_PANEL + _TOP + _MARGIN)
        parts.append(f'<g transform="translate({across},{down})">{_panel(validation, kind, colours, told=False)}</g>')
    top = rows * (_PANEL + _TOP + _MARGIN)
    for number, (name, colour) in enumerate(colours.items()):
        x, y = 12 + (number % per_row) * _LEGEND_COLUMN, top + (number // per_row) * _LEGEND_ROW + 12
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 8}" y="{y + 4}">{html.escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def parity_page(validation: Validation, title: str) -> str:
    """Return a page with all panels, what every point is, and a switch for every accelerator.

    Parameters
    ----------
    validation : Validation
        Points with predictions.
    title : str
        Heading, as the file of the points.

    """
    colours = colours_of(validation.compared)
    switches = "".join(
        f'<label><input type="checkbox" checked data-shows="a{number}">'
        f'<span style="color:{colour}">&#9679;</span> {html.escape(name)}</label>'
        for number, (name, colour) in enumerate(colours.items())
    )
    size = f'width="{_PANEL + _MARGIN + 16}" height="{_PANEL + _TOP + _MARGIN}"'
    panels = "".join(
        f'<svg {size} font-family="sans-serif" font-size="11">{_panel(validation, kind, colours, told=True)}</svg>'
        for kind in KINDS
        if any(each.metric == kind for each in validation.compared)
    )
    note = (
        f"{len(validation.compared):,} numbers compared, {len(validation.unscored):,} not. The line is equality, the "
        "shade the stated 80% band (median over the points). Figures derived from MLPerf results are unverified by "
        "MLCommons."
    )
    return _PAGE.format(title=html.escape(title), note=note, switches=switches, panels=panels)


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body{{font:14px sans-serif;margin:2em}}label{{margin-right:1.2em;white-space:nowrap}}svg{{margin:4px}}
</style></head><body><h1>{title}</h1><p>{note}</p><p>{switches}</p><div>{panels}</div><script>
document.querySelectorAll("input[data-shows]").forEach(box => box.addEventListener("change", () =>
  document.querySelectorAll("." + box.dataset.shows).forEach(
    dot => {{ dot.style.display = box.checked ? "" : "none"; }})
));
</script></body></html>
"""


def colours_of(rows: Sequence[Compared]) -> dict[str, str]:
    """Return accelerator -> colour, far apart in hue for neighbours of the alphabet."""
    names = sorted({each.accelerator for each in rows})
    found = {}
    for number, name in enumerate(names):
        red, green, blue = colorsys.hls_to_rgb((number * 0.381966) % 1.0, 0.36 + 0.12 * (number % 3), 0.75)
        found[name] = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
    return found


def _panel(validation: Validation, kind: str, colours: Mapping[str, str], told: bool) -> str:
    label, scale = _UNITS[kind]
    rows = [each for each in validation.compared if each.metric == kind]
    values = np.array([[each.measured, each.predicted] for each in rows]) * scale
    low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
    high = max(high, low + 1)

    def place(value: float) -> float:
        return _PANEL * (math.log10(value) - low) / (high - low)

    def x_of(value: float) -> float:
        return _MARGIN + place(value)

    def y_of(value: float) -> float:
        return _TOP + _PANEL - place(value)

    parts = [f'<text x="{_MARGIN}" y="16" font-weight="bold">{label}, {len(rows):,} numbers</text>']
    parts.append(_band(rows, kind, low, high))
    for power in range(low, high + 1):
        value = 10.0**power
        parts.append(
            f'<path d="M{x_of(value):.1f} {_TOP}v{_PANEL}M{_MARGIN} {y_of(value):.1f}h{_PANEL}" stroke="#ddd"/>'
            f'<text x="{x_of(value):.1f}" y="{_TOP + _PANEL + 14}" text-anchor="middle">{value:g}</text>'
            f'<text x="{_MARGIN - 4}" y="{y_of(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    parts.append(f'<path d="M{_MARGIN} {_TOP + _PANEL}L{_MARGIN + _PANEL} {_TOP}" stroke="#333"/>')
    parts.append(
        f'<text x="{_MARGIN + _PANEL / 2}" y="{_TOP + _PANEL + 30}" text-anchor="middle">measured</text>'
        f'<text transform="translate(12,{_TOP + _PANEL / 2}) rotate(-90)" text-anchor="middle">predicted</text>'
    )
    numbers = {name: number for number, name in enumerate(colours)}
    for each, (measured, predicted) in zip(rows, values.tolist(), strict=True):
        dot = (
            f'<circle cx="{x_of(measured):.1f}" cy="{y_of(predicted):.1f}" r="2" fill="{colours[each.accelerator]}" '
            f'fill-opacity="0.6"'
        )
        if not told:
            parts.append(f"{dot}/>")
            continue
        said = (
            f"{each.row_id}: {each.accelerator}, {each.model}, {each.framework}, {each.regime}, {each.statistic}: "
            f"measured {measured:.4g}, predicted {predicted:.4g} ({each.error:+.0%})"
        )
        parts.append(f'{dot} class="a{numbers[each.accelerator]}"><title>{html.escape(said)}</title></circle>')
    return "".join(parts)


def _band(rows: Sequence[Compared], kind: str, low: int, high: int) -> str:
    """Return the shade of the stated band, predicted from measured, cut to the panel; nothing where none is stated."""
    stated = [each for each in rows if math.isfinite(each.band_low)]
    if not stated:
        return ""
    weight = np.array([each.weight for each in stated])
    # Measured lies between low and high times predicted, so predicted between measured over high and over low.
    least, most = (
        1.0 / weighted_quantile(np.array([end / each.predicted for each, end in ends]), weight, 0.5)
        for ends in ([(each, each.band_high) for each in stated], [(each, each.band_low) for each in stated])
    )
    unit = _PANEL / (high - low)
    shifts = [unit * math.log10(ratio) for ratio in (least, most)]
    left, right, bottom = _MARGIN, _MARGIN + _PANEL, _TOP + _PANEL
    corners = [
        (left, bottom - shifts[0]), (right, _TOP - shifts[0]), (right, _TOP - shifts[1]), (left, bottom - shifts[1]),
    ]  # fmt: skip
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    clip = f'<clipPath id="p-{kind}"><rect x="{left}" y="{_TOP}" width="{_PANEL}" height="{_PANEL}"/></clipPath>'
    return f'{clip}<polygon points="{outline}" fill="#8ab" fill-opacity="0.25" clip-path="url(#p-{kind})"/>'
