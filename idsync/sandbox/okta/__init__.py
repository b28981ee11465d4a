"""A stand-in for an Okta org: users, groups, apps, the System Log, tokens and limits, in memory and on loopback only.

Bodies, headers and errors follow what was recorded of the real thing and its documentation.
"""
