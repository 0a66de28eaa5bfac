"""The room for what must be true: closed forms and exact sample-path laws of queueing theory.

They are the witness that judges the simulator, so they import numpy and scipy and nothing of ours, and
nothing of ours imports them: an error cannot be shared between the formula and the program that it checks.
Every function names its assumptions and its source; outside them it raises ValueError rather than return a
number.
"""
