"""THE write: what a push means for people, with a real store and no gateway."""
