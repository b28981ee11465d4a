"""Every SCIM client that is described by its vendor, its source or a capture, played against the real endpoint."""
