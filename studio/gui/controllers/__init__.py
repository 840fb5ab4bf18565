"""What stands between the session and the views; each controller minds one matter."""
