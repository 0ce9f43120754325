"""One run: start the server, send the requests of its points, write the results."""
