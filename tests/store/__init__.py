"""The store: one writer, durable commits, rows and what they refuse."""
