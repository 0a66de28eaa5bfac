"""What is described: hardware, models, workloads, fleets, scenarios: frozen specs with units and sources."""
