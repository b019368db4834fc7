"""For `zconsole run zope.conf seed.py MEGABYTES`: documents, a File and a blob of that size, a counter."""

import random
import sys

import transaction

from exhibit import BlobItem, Counter

root = app  # noqa: F821  (zconsole's)
size = int(sys.argv[-1]) * 1024 * 1024
bytes_of = random.Random(7).randbytes

folders = root.manage_addProduct["OFSP"]
folders.manage_addFolder("docs", "Documents")
inside = root.docs.manage_addProduct["OFSP"]
for number in range(300):
    text = f"Document {number}. " + "Quod erat demonstrandum. " * (20 + number % 40)
    inside.manage_addDTMLDocument(f"d{number}", f"Document {number}", text)
folders.manage_addFile("big", bytes_of(size), "A file", content_type="application/octet-stream")
root._setObject("blob", BlobItem("blob", bytes_of(size)))
root._setObject("counter", Counter("counter"))
transaction.commit()
