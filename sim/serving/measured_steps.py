"""Step times from a table of measured steps, in the form that the engines use.

A step of n tokens, of which d are decoding sequences over C context tokens and the rest a chunk of a prompt that makes
A query-key pairs, takes

    t = L(n) + f (context_s C + window_context_s C_window) + g (pair_s A + window_pair_s A_window)

with L a value at every measured n and straight between them. L, f and g come from non-negative least squares on
relative errors; f and g are drawn to 1 so weakly that they stay there only where the rows do not determine them. What
lies outside of the measured n continues with the differences of the serving stack's own step time, and is flagged.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.serving.step_time import StepTime
from sim.specs.errors import InputError, Problem, suggest

REQUIRED = ("batch_tokens", "decode_sequences", "context_tokens", "seconds")
OPTIONAL = ("prefill_context_tokens",)
_DRAWN = 1e-4
"""Weight of the row that draws a factor to 1, against rows of relative error."""


@dataclass(frozen=True)
class MeasuredStep:
    """One measured step."""

    batch_tokens: int
    """Tokens in the step, decoded and prefilled ones."""

    decode_sequences: int
    """Sequences that decode in it, one token each."""

    context_tokens: float
    """Summed context of these [tokens]."""

    seconds: float
    """How long it took [s]."""

    prefill_context_tokens: float = 0.0
    """Tokens of the prompt that were computed in earlier steps [tokens]."""


@dataclass(frozen=True)
class TabulatedSteps:
    """Step times from a table, with what is known of them."""

    step_time: StepTime
    """Step times."""

    batch_tokens: tuple[int, int]
    """Fewest and most tokens in a measured step."""

    most_sequences: int
    """Most decoding sequences in a measured step."""

    most_context_tokens: float
    """Most context tokens of decoding sequences in a measured step [tokens]."""

    median_error: float
    """Median relative difference between measured steps and these step times [1]."""

    worst_error: float
    """Largest relative difference [1]."""


def read_measured_steps(path: Path) -> list[MeasuredStep]:
    """Return the rows of a CSV of measured steps.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column or has an unknown one, or a row says what cannot be; with all lines.

    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(f"cannot be read: {error}", str(path), remedy="Check the path.")]) from None
    reader = csv.DictReader(lines)
    header = [str(name).strip() for name in reader.fieldnames or ()]
    known = REQUIRED + OPTIONAL
    problems = [
        Problem("has no such column", str(path), name, remedy=f"Columns needed: {', '.join(REQUIRED)}.", line=1)
        for name in REQUIRED
        if name not in header
    ]
    problems += [
        Problem("unknown column", str(path), name, remedy=suggest(name, known), line=1)
        for name in header
        if name not in known
    ]
    if problems:
        raise InputError(problems)
    steps: list[MeasuredStep] = []
    for row in reader:
        wrong, step = _read(row, str(path), reader.line_num)
        problems += wrong
        if step is not None:
            steps.append(step)
    if not problems and len(steps) < 2:
        problems.append(Problem("holds fewer than two steps", str(path), remedy="Measure at least two batch sizes."))
    if problems:
        raise InputError(problems)
    return steps


def _read(row: Mapping[str | None, str | None], file: str, line: int) -> tuple[list[Problem], MeasuredStep | None]:
    if None in row or None in row.values():
        return [Problem("has more or fewer cells than the header", file, line=line)], None
    numbers: dict[str, float] = {}
    problems = []
    for name, text in ((str(name).strip(), (text or "").strip()) for name, text in row.items()):
        try:
            numbers[name] = float(text or ("0" if name in OPTIONAL else ""))
        except ValueError:
            problems.append(Problem("is not a number", file, name, text, line=line))
            continue
        least = {"batch_tokens": 1.0, "seconds": 1e-9}.get(name, 0.0)
        whole = name in ("batch_tokens", "decode_sequences")
        if not math.isfinite(numbers[name]) or numbers[name] < least or (whole and numbers[name] % 1):
            what = "whole number" if whole else "finite number"
            above = "of at least 1" if least == 1.0 else "above 0" if least else "of at least 0"
            problems.append(Problem(f"must be a {what} {above}", file, name, text, line=line))
    if not problems and numbers["decode_sequences"] > numbers["batch_tokens"]:
        remedy = "Every decoding sequence is one of the batch's tokens."
        value = row["decode_sequences"]
        problems.append(Problem("exceeds batch_tokens", file, "decode_sequences", value, remedy, line))
    if problems:
        return problems, None
    return [], MeasuredStep(
        int(numbers["batch_tokens"]),
        int(numbers["decode_sequences"]),
        numbers["context_tokens"],
        numbers["seconds"],
        numbers.get("prefill_context_tokens", 0.0),
    )


def tabulated(steps: Sequence[MeasuredStep], stack: StepTime, window: int = 0) -> TabulatedSteps:
    """Return step times that reproduce measured steps, and continue outside of them as a serving stack has it.

    Parameters
    ----------
    steps : sequence of MeasuredStep
        At least two rows.
    stack : StepTime
        Step times of the serving stack, whose table lengths are kept.
    window : int
        Sliding window of the model [tokens]; 0 where there is none.

    """
    from scipy.optimize import nnls  # slow to import, and needed only where a table is named

    measured = np.array([step.seconds for step in steps])
    tokens = np.array([step.batch_tokens for step in steps])
    knots, place = np.unique(tokens, return_inverse=True)
    attention = np.array([_attention_s(step, stack, window) for step in steps])
    design = np.zeros((len(steps) + 2, len(knots) + 2))
    design[np.arange(len(steps)), place] = 1.0
    design[: len(steps), len(knots) :] = attention
    design[: len(steps)] /= measured[:, None]
    design[len(steps) + np.arange(2), len(knots) + np.arange(2)] = _DRAWN
    wanted = np.concatenate([np.ones(len(steps)), [_DRAWN, _DRAWN]])
    # Columns of equal size, so that seconds and factors are alike to the solver.
    size = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    solution = nnls(design / size, wanted)[0] / size
    levels, (decode, prefill) = solution[: len(knots)], solution[len(knots) :]
    errors = np.abs(design[: len(steps)] @ solution - 1.0)
    step_time = StepTime(
        linear_s=_continued(knots, levels, stack.linear_s),
        sequence_s=np.zeros_like(stack.sequence_s),
        context_s=float(decode * stack.context_s),
        window_context_s=float(decode * stack.window_context_s),
        pair_s=float(prefill * stack.pair_s),
        window_pair_s=float(prefill * stack.window_pair_s),
    )
    return TabulatedSteps(
        step_time=step_time,
        batch_tokens=(int(knots[0]), int(knots[-1])),
        most_sequences=max(step.decode_sequences for step in steps),
        most_context_tokens=max(step.context_tokens for step in steps),
        median_error=float(np.median(errors)),
        worst_error=float(errors.max()),
    )


def _attention_s(step: MeasuredStep, stack: StepTime, window: int) -> tuple[float, float]:
    """Return the stack's attention time of a step, of its decoding sequences and of its chunk of a prompt [s]."""
    sequences, context = step.decode_sequences, step.context_tokens
    inside = min(context, float(sequences * window)) if window else 0.0
    decode = context * stack.context_s + inside * stack.window_context_s
    chunk, past = float(step.batch_tokens - sequences), step.prefill_context_tokens
    below = min(max(window - past, 0.0), chunk) if window else 0.0
    inner = below * past + below * (below + 1.0) / 2.0 + (chunk - below) * window
    pairs = chunk * past + chunk * (chunk + 1.0) / 2.0
    return decode, pairs * stack.pair_s + (inner * stack.window_pair_s if window else 0.0)


def _continued(
    knots: NDArray[np.int64], levels: NDArray[np.float64], stack: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a table over all numbers of tokens: straight between knots, with the stack's differences outside."""
    count = np.arange(len(stack), dtype=np.float64)
    inside = np.interp(count, knots, levels)
    ends = np.minimum(knots[[0, -1]], len(stack) - 1)
    below = levels[0] + stack - stack[ends[0]]
    above = levels[-1] + stack - stack[ends[1]]
    table = np.where(count < knots[0], below, np.where(count > knots[-1], above, inside))
    return np.maximum(table, 1e-9)


def outside_of(table: TabulatedSteps, step_token_budget: int, file: str) -> Iterable[str]:
    """Yield what a pool can do that a table does not hold, and how badly the table is reproduced.

    Parameters
    ----------
    table : TabulatedSteps
        Step times from a table.
    step_token_budget : int
        Most tokens in one step of the pool.
    file : str
        Name of the table.

    """
    low, high = table.batch_tokens
    if step_token_budget > high:
        yield (
            f"steps of up to {step_token_budget:,} tokens are possible, {file} ends at {high:,}: beyond it they are "
            "extrapolated as the serving stack has it"
        )
    if low > 1:
        yield f"{file} begins at {low:,} tokens in a step: below it steps are extrapolated"
    if table.worst_error > _NOTABLE:
        yield (
            f"step times reproduce {file} to {table.median_error:.1%} on the median and {table.worst_error:.0%} at "
            "worst"
        )


_NOTABLE = 0.1
"""Relative difference from a measured step that is worth a word."""
