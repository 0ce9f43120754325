"""Checkpoints: fetched, or trained here for the micro study."""
