"""`eventlet`: requests run in green threads; eventlet's hub turns the engine.

Gunicorn removed this class in 26; applications that are married to eventlet still have a server here.
"""

from tricorn.workers.green import GreenWorker
from tricorn.workers.requirements import need


class EventletWorker(GreenWorker):
    @classmethod
    def setup(cls):
        need("eventlet", "eventlet", "0.40.3")

    @staticmethod
    def patch():
        import eventlet
        from eventlet import hubs

        # One of this process's own: the parent may have had one.
        hubs.use_hub()
        eventlet.monkey_patch()

    def hub(self):
        import eventlet
        from eventlet import hubs

        self.eventlet = eventlet
        self.loop = hubs.get_hub()
        return self.loop.greenlet

    def watch(self, fd, callback):
        self.loop.add(self.loop.READ, fd, lambda _: callback(), callback, lambda: None)

    def soon(self, callback):
        self.loop.schedule_call_global(0, callback)

    def pause(self, seconds):
        self.eventlet.sleep(seconds)

    def spawn(self, function, *args):
        self.eventlet.spawn(function, *args)
