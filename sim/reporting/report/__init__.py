"""The report: one self-contained HTML page of what result, plan, sweep and uncertainty directories hold."""
