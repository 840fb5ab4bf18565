"""The desk: Qt widgets, and the one bridge from worker threads to them. Nothing else imports Qt."""
