"""`idsync drill` and `idsync doctor` against a daemon and a sandbox with three replicas."""
