"""The main job on real wire traffic: a stand-in gateway, the real daemon, and identity providers as they really push."""
