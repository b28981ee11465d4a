"""The command line: one short file a command, no logic; what a command does lives in the rooms below."""
