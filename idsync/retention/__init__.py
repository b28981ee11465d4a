"""How long things are kept: what has rested long enough is taken from the store, the trail only once it was exported."""
