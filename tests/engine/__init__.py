"""What idsync does at the gateway, seen from the gateway."""
