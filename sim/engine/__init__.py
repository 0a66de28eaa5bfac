"""Time: engines move it, and decide nothing about serving."""
