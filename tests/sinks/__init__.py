"""Every kind of sink, each against what it really writes to, or what checks the same."""
