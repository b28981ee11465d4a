"""What the end-to-end tests share: a throw-away configuration, a directory that pushes, a gateway to look at."""
