"""Scripted sessions of identity providers as SCIM clients, and the player for them."""
