"""How answers and progress reach the reader: a terminal gets colour and its own width, a file plain text in full."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

PAGE_WIDTH = 150
"""Width of pages and pictures [characters]."""

_UNBROKEN_WIDTH = 10_000  # [characters]


def show(renderable: RenderableType) -> None:
    """Print on stdout: in the width of a terminal, or as plain text that depends on nothing but its content."""
    if sys.stdout.isatty():
        Console().print(renderable)
    else:
        sys.stdout.write(plain_text(renderable))
        sys.stdout.flush()


def plain_text(renderable: RenderableType) -> str:
    """Return a renderable as lines without colour, breaks or trailing blanks."""
    text = io.StringIO()
    console = Console(file=text, width=_UNBROKEN_WIDTH, no_color=True, force_terminal=False, legacy_windows=False)
    console.print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def recorder() -> Console:
    """Return a console that keeps what is printed on it, for a page or a picture."""
    return Console(record=True, file=io.StringIO(), width=PAGE_WIDTH, force_terminal=True, legacy_windows=False)


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """Show how far the work is, on stderr and only on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("preparing", total=1.0)
        yield lambda what, fraction: bar.update(task, description=what, completed=fraction)
