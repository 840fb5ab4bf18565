"""Training without a face: examples from files, optimisers, schedules, and the search for a blend."""
