"""The way out: make the gateway agree with what policy decided, one person at a time, and prove it."""
