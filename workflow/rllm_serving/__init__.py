"""How reasoning language models behave when they are served: the library behind the workflow.

Nothing in here knows of Snakemake; the scripts in ``workflow/scripts`` hand in plain paths and dictionaries.
"""
