"""Many runs: a study as tasks whose keys their content makes, in this process, in local ones, or on a cluster."""
