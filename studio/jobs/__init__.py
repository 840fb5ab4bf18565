"""Long work as generators of progress, and the threads that run it."""
