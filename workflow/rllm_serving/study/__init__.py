"""What a config asks for: checks, points, runs, estimates."""
