"""Takes jobs from the queue and answers with pictures."""
