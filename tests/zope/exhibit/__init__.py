"""What the Zope of the tests and of `make serve-zope` shows: a counter, a blob, views about the server.

Loaded through ZCML, as a site's own package is; no product, nothing in the add menu.
"""

import json
import os
import time

import transaction
from OFS.SimpleItem import SimpleItem
from Products.Five.browser import BrowserView
from ZODB.blob import Blob
from ZPublisher.Iterators import filestream_iterator


class Counter(SimpleItem):
    """One integer that everybody changes at once: what conflicts are made of."""

    meta_type = "Exhibit Counter"
    value = 0

    def __init__(self, id):
        self.id = id


class BlobItem(SimpleItem):
    """A file that lives in the blob folder."""

    meta_type = "Exhibit Blob"

    def __init__(self, id, data):
        self.id = id
        self.blob = Blob(data)


class Count(BrowserView):
    """Adds one; Zope retries the request after a conflict."""

    def __call__(self):
        counter = self.context.counter
        seen = counter.value
        time.sleep(float(self.request.form.get("pause", "0")))
        counter.value = seen + 1
        transaction.get().note("count")
        return str(counter.value)


class Value(BrowserView):
    def __call__(self):
        return str(self.context.counter.value)


class Pause(BrowserView):
    """Holds a database connection for `seconds`."""

    def __call__(self):
        self.context.objectIds()
        time.sleep(float(self.request.form.get("seconds", "0.1")))
        return "paused"


class Connections(BrowserView):
    """How many connections to the database this process has made, and which storage is behind them."""

    def __call__(self):
        database = self.context.getPhysicalRoot()._p_jar.db()
        told = {
            "pid": os.getpid(),
            "connections": len(database.connectionDebugInfo()),
            "storage": type(database.storage).__name__,
        }
        self.request.response.setHeader("Content-Type", "application/json")
        return json.dumps(told)


class Asked(BrowserView):
    """What the server has told about this request, which no cache keeps."""

    def __call__(self):
        environ, response = self.request.environ, self.request.response
        told = {"scheme": environ["wsgi.url_scheme"], "peer": environ["REMOTE_PORT"]}
        told["form"] = dict(self.request.form)
        response.setHeader("Content-Type", "application/json")
        response.setHeader("Cache-Control", "no-store")
        return json.dumps(told)


class Download(BrowserView):
    """The blob, as a file for `wsgi.file_wrapper`."""

    def __call__(self):
        path = self.context.blob.blob.committed()
        response = self.request.response
        response.setHeader("Content-Type", "application/octet-stream")
        response.setHeader("Content-Length", str(os.path.getsize(path)))
        return filestream_iterator(path, "rb")
