"""A stand-in for Microsoft Graph and Entra's token endpoint, in memory and on loopback only.

Bodies, headers and errors follow Microsoft's documentation and what was recorded of the real thing.
"""
