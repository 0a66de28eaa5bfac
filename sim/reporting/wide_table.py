"""A table that never loses a digit: where the terminal is too narrow, its columns go on below, as in a broken line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

_GAP = 2  # [characters] between columns
_NARROWEST_PROSE = 24  # [characters]; prose in less room is a column of single words


@dataclass(frozen=True)
class TableColumn:
    """One column: what stands above it, and how its cells are set."""

    heading: str
    """Heading; a line break starts a second line."""

    is_number: bool = False
    """Whether cells are set to the right, so that digits stand below digits."""

    is_key: bool = False
    """Whether the column says what a row is about; it is repeated where the table is broken."""

    is_prose: bool = False
    """Whether cells may be broken into lines."""


@dataclass(frozen=True)
class WideTable:
    """A titled table for any width of terminal."""

    title: str
    """What stands above it."""

    columns: Sequence[TableColumn]
    """Columns from left to right."""

    rows: Sequence[Sequence[str]]
    """Cells by row, one a column."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one table, or as many below each other as the width asks for."""
        for position, block in enumerate(self._blocks(options.max_width)):
            if position:
                yield ""
            yield self._table(block, "" if position else self.title)

    def _blocks(self, width: int) -> Iterator[list[int]]:
        """Yield the columns of each part: the keys, and as many others as there is room for."""
        keys = [index for index, column in enumerate(self.columns) if column.is_key]
        others = [index for index, column in enumerate(self.columns) if not column.is_key]
        room = width - sum(self._width(index) + _GAP for index in keys)
        block: list[int] = []
        used = 0
        for index in others:
            needed = self._width(index) + (_GAP if block else 0)
            if block and used + needed > room:
                yield sorted([*keys, *block])
                block, used, needed = [], 0, self._width(index)
            block.append(index)
            used += needed
        yield sorted([*keys, *block])

    def _width(self, index: int) -> int:
        """Return the characters that a column takes, and for prose those that it needs."""
        lines = self.columns[index].heading.split("\n")
        longest = max(cell_len(text) for text in (*lines, *(row[index] for row in self.rows)))
        return min(longest, _NARROWEST_PROSE) if self.columns[index].is_prose else longest

    def _table(self, block: Sequence[int], title: str) -> Table:
        table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False,
                      header_style="dim")  # fmt: skip
        for index in block:
            column = self.columns[index]
            table.add_column(
                column.heading,
                justify="right" if column.is_number else "left",
                overflow="fold",
                min_width=None if column.is_prose else self._width(index),
            )
        for row in self.rows:
            table.add_row(*(row[index] for index in block))
        return table
