"""One run: start the server, send its points, write what was seen."""
