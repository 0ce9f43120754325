"""Which answers are right: extraction, comparison, and code in a sandbox."""
