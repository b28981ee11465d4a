"""Keys that idsync makes: shared keys of teams, delivered and renewed, and personal ones with an end."""
