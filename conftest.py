"""What holds for the tests of every folder."""

pytest_plugins = ["support.plugin"]
