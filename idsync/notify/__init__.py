"""Telling people: what is true now that somebody should know, what of it was told, and how it gets to them."""
