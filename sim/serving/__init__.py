"""The room for how a replica answers: the work of a model, step times, KV memory, batching and routing.

Everything here is pure: given the same specs and the same requests it decides the same batches and times; no
randomness, no input or output, and no clock of its own. Time is moved by `sim.engine`.
"""
