"""Teams at the gateway: set up, kept, emptied of strangers, retired, and read into a configuration."""
