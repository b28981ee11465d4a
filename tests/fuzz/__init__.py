"""Hostile input, in sizes: `IDSYNC_FUZZ=20` is the nightly size of what `make test` tries a little of."""
