"""Rows of a sparse matrix of constraints as they are collected, each scaled so that the solver sees like sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float64]


class Rows:
    """Rows that are added one by one, then turned into a matrix at once."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.entries: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def add(self, parts: list[tuple[npt.ArrayLike, npt.ArrayLike]], lower: float, upper: float) -> None:
        """Add a row of (positions, coefficients), scaled so that its largest coefficient is one."""
        places = np.concatenate([np.ravel(np.asarray(place)) for place, _ in parts])
        weights = np.concatenate(
            [np.ravel(np.broadcast_to(np.asarray(weight, float), np.shape(place))) for place, weight in parts]
        )
        scale = max(float(np.abs(weights).max(initial=0.0)), 1e-300)
        kept = weights != 0.0
        if not kept.any() and lower <= 0.0 <= upper:
            return
        self.entries.append((places[kept], weights[kept] / scale))
        self.lower.append(lower / scale)
        self.upper.append(upper / scale)

    def matrix(self) -> tuple[sparse.csr_array, FloatArray, FloatArray]:
        """Return the matrix and the ends of its rows."""
        pointers = np.concatenate([[0], np.cumsum([len(places) for places, _ in self.entries])]).astype(np.int64)
        places = np.concatenate([places for places, _ in self.entries])
        weights = np.concatenate([weights for _, weights in self.entries])
        shape = (len(self.entries), self.columns)
        matrix = sparse.csr_array((weights, places, pointers), shape=shape)
        matrix.sum_duplicates()  # the solver rejects a position that stands twice in a row
        return matrix, np.array(self.lower), np.array(self.upper)
