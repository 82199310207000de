"""Run jobs: runners, process pool, progress, log and command line."""
