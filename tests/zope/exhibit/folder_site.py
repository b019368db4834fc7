"""For `zconsole run zope.conf folder_site.py MEGABYTES`: a folder where a Plone site would be.

A page, two documents, a File of that size, and one to be overwritten.
"""

import random
import sys

import transaction

root = app  # noqa: F821  (zconsole's)
size = int(sys.argv[-1]) * 1024 * 1024

root.manage_addProduct["OFSP"].manage_addFolder("Plone", "In the place of a site")
inside = root.Plone.manage_addProduct["OFSP"]
for name in ("index_html", "d1", "a b"):
    inside.manage_addDTMLDocument(name, name, f"This is {name}.")
inside.manage_addFile("big", random.Random(7).randbytes(size), content_type="application/octet-stream")
inside.manage_addFile("stored", b"nothing yet", content_type="application/octet-stream")
transaction.commit()
