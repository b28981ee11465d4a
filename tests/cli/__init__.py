"""The real command line, as child processes."""
