"""The SCIM 2.0 protocol without any I/O: what is described, what is forgiven, what becomes SQL.

The order of reading: `provider` (what we are), `parse` and `tolerance` (what comes in), `hot` (the frequent shapes),
`sql` (filters), `documents` (what goes out).
"""
