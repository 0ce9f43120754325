# The workflow itself is in workflow/: this lets `snakemake` be called in the folder of a clone. As a function, because
# the directive of that name leaves out which target is the default one.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
