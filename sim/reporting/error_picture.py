"""Median errors by accelerator as a picture: one row an accelerator, one dot a metric."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from sim.fidelity.points import KINDS

_COLOURS = {"throughput": "#1b6ca8", "tpot": "#c44536", "e2e": "#6a994e", "ttft": "#9c6ade"}
_LEFT, _WIDTH, _ROW, _TOP = 110, 560, 20, 44
_LOWEST, _HIGHEST = 0.01, 10.0


def error_picture(groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return SVG that needs nothing else: median absolute errors on a logarithmic axis from 1% to 1000%.

    Parameters
    ----------
    groups : mapping
        Accelerator -> metric -> error measures.

    """
    height = _TOP + _ROW * len(groups) + 30
    width = _LEFT + _WIDTH + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, kind in enumerate(KINDS):
        start = _LEFT + 120 * number
        parts.append(f'<circle cx="{start}" cy="14" r="5" fill="{_COLOURS[kind]}"/>')
        parts.append(f'<text x="{start + 9}" y="18">{kind}</text>')
    bottom = _TOP + _ROW * len(groups)
    for value in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0):
        x = _place(value)
        parts.append(
            f'<path d="M{x:.1f} {_TOP - 8}V{bottom}" stroke="#ddd"/>'
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.0%}</text>'
        )
    for number, (name, metrics) in enumerate(groups.items()):
        y = _TOP + _ROW * number + 6
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{html.escape(name)}</text>')
        for kind in KINDS:
            found = metrics.get(kind)
            if found and found["n"]:
                radius = min(8.0, 2.0 + math.log10(found["n"]) * 2.0)
                parts.append(
                    f'<circle cx="{_place(found["median_ape"]):.1f}" cy="{y}" r="{radius:.1f}" '
                    f'fill="{_COLOURS[kind]}" fill-opacity="0.7"/>'
                )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _place(value: float) -> float:
    inside = min(max(value, _LOWEST), _HIGHEST)
    return _LEFT + _WIDTH * math.log(inside / _LOWEST) / math.log(_HIGHEST / _LOWEST)
