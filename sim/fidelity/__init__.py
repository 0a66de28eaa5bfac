"""How far the simulator is from measured systems, and how to bring it closer.

Points of real systems are read from CSV (`points`), mapped to what the library knows (`mapping`), predicted by
simulation (`prediction`) or by a mean-field estimate (`mean_field`), compared (`validation`), and used to fit the
efficiencies of a serving stack (`calibration`, `fitting`). The shipped stacks are such a fit (`shipping`), judged by
what it predicts without having seen it (`transfer`, `measured_page`).
"""
