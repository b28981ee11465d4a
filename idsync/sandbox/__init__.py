"""A stand-in for the gateway's management API, in memory and on loopback only.

It keeps the habits that make revocation hard (per-replica key caches, deletions that are not
broadcast, updates that create) and adds hooks to seed it, to break it and to read what it was asked.
It shares no code with the client it tests.
"""
