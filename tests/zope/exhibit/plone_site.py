"""For `zconsole run zope.conf plone_site.py`: a Plone site with a published page."""

import transaction
from AccessControl.SecurityManagement import newSecurityManager
from Products.CMFPlone.factory import addPloneSite
from Testing.makerequest import makerequest
from zope.component.hooks import setSite

root = makerequest(app)  # noqa: F821  (zconsole's)
admin = root.acl_users.getUser("admin")
newSecurityManager(None, admin.__of__(root.acl_users))
profiles = ("plone.app.contenttypes:default", "plonetheme.barceloneta:default")
site = addPloneSite(
    root,
    "Plone",
    title="Plone on Tricorn",
    default_language="en",
    extension_ids=profiles,
    setup_content=False,
)
transaction.commit()
setSite(site)

from plone import api  # noqa: E402  (needs a site)

page = api.content.create(site, "Document", "page", "A page")
api.content.transition(page, "publish")
transaction.commit()
