"""The room for who asks: random streams, arrivals, lengths, and the table of requests they become.

All randomness of a simulation is drawn here, from named streams of one seed, before the simulation starts.
What leaves the room is a `Trace`: synthetic and recorded traffic are the same type.
"""
