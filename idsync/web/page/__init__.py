"""The status page: sessions, what it reads from the store, how that is drawn, and where it is served."""
