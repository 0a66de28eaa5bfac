"""How sure a plan is: drawn inputs, what the best and the decided plan come to in each world, and what drives it."""
