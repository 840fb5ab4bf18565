"""The evented state that the desk and the command line share. No Qt in here."""
