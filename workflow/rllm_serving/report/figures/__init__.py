"""One module a figure; each has `draw(..., pdf, png)`."""
