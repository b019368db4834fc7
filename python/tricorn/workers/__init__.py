"""Worker classes by the names that `worker_class` takes."""

from tricorn.importer import WORKER_CLASSES as SUPPORTED_WORKERS

__all__ = ["SUPPORTED_WORKERS"]
