"""A configuration file, found by itself: `cd examples/configured && tricorn`.

Every global whose name is a setting counts; the rest is ordinary Python.
"""

import multiprocessing

wsgi_app = "app:app"
chdir = "../hello"

bind = "127.0.0.1:8000"
workers = multiprocessing.cpu_count()
threads = 4
timeout = 30
max_requests = 10_000
max_requests_jitter = 1_000

accesslog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s %(L)ss'


def when_ready(server):
    server.log.info("ready with %d workers", server.num_workers)


def worker_exit(server, worker):
    worker.log.info("worker %s served %d requests", worker.pid, worker.nr)
