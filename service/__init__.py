"""The FastAPI front end: takes uploads, queues jobs, answers with pictures."""
