"""From what a polled source says to what is written: compare, look up by id, guard or hold, take in."""
