"""Published claims put to the test: studies as data, computed by the rooms that size, price and plan."""
