"""What runs when: the study file, Dagster's assets and the command line."""
