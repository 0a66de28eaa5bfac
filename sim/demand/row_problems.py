"""Problems of a table, collected by row: all are counted, the first ones are listed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sim.specs.errors import InputError, Problem

LISTED = 20
"""Problems that are written out; the rest is counted."""


class RowProblems:
    """Collects what is wrong with the rows of a table.

    Parameters
    ----------
    file : str
        File of the table, empty when it has none.

    """

    def __init__(self, file: str = "") -> None:
        self.file = file
        self.count = 0
        self._kept: list[tuple[int, str, str, object, str]] = []

    def add(self, row: int, column: str, message: str, value: object, remedy: str = "") -> None:
        """Add one problem; rows count from 0 and must not fall from call to call."""
        self.count += 1
        if len(self._kept) < LISTED:
            self._kept.append((row, column, message, value, remedy))

    def add_where(
        self,
        wrong: npt.NDArray[np.bool_],
        column: str,
        message: str,
        values: npt.NDArray[np.generic] | npt.NDArray[np.object_],
        remedy: str = "",
    ) -> None:
        """Add one problem for each row that is wrong."""
        rows = np.flatnonzero(wrong)
        self.count += rows.size
        # every kind of problem keeps its own first rows, so the first of all are among them
        self._kept += [(int(row), column, message, values[row : row + 1].tolist()[0], remedy) for row in rows[:LISTED]]

    def raise_if_any(self, lines: Sequence[int] | None = None) -> None:
        """Raise all problems in order of rows.

        Parameters
        ----------
        lines : sequence of int, optional
            Line of the file in which each row stands, counted from 1.

        Raises
        ------
        InputError
            There is a problem; the first 20 are listed and the others counted.

        """
        if not self.count:
            return
        problems = []
        for row, column, message, value, remedy in sorted(self._kept, key=lambda kept: kept[0])[:LISTED]:
            line = None if lines is None else int(lines[row])
            path = column if line is not None else ", ".join(filter(None, (f"row {row}", column)))
            problems.append(Problem(message, self.file, path, value, remedy, line))
        if self.count > len(problems):
            problems.append(Problem(f"and {self.count - len(problems)} more problems like these", self.file))
        raise InputError(problems)
