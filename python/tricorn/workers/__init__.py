"""Worker classes by the names that `worker_class` takes."""

SUPPORTED_WORKERS = {
    "sync": "tricorn.workers.sync.SyncWorker",
    "gthread": "tricorn.workers.gthread.ThreadWorker",
}
