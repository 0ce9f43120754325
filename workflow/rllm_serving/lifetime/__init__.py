"""Processes that must not outlive the workflow."""
