"""Engines and their servers, the hardware that they run on."""
