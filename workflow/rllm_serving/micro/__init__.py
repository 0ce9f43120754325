"""Tiny language models, trained from fixed seeds, and the question suites that they answer."""
