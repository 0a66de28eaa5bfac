"""What to buy: cost, sizing, and the horizon with its procurement, levers, viability and back-test."""
