"""Requests and when they are sent: the client, its load patterns, arrivals and traces."""
