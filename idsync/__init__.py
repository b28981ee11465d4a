"""idsync: when somebody leaves, every gateway key they hold stops working at once, with proof."""

__version__ = "0.1.0"
