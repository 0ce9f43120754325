"""Question sets: loaders, prompts, and the questions that the micro study makes."""
