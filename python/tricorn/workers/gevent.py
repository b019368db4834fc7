"""`gevent`: requests run in greenlets; gevent's hub turns the engine."""

from tricorn.workers.green import GreenWorker
from tricorn.workers.requirements import need

READABLE = 1


class GeventWorker(GreenWorker):
    @classmethod
    def setup(cls):
        need("gevent", "gevent", "24.10.1")

    @staticmethod
    def patch():
        import gevent
        from gevent import monkey

        monkey.patch_all()
        # The hub may have been made before the fork.
        gevent.reinit()

    def hub(self):
        import gevent

        self.gevent = gevent
        self.watchers = []
        return gevent.get_hub()

    def watch(self, fd, callback):
        watcher = self.home.loop.io(fd, READABLE)
        watcher.start(callback)
        self.watchers.append(watcher)

    def soon(self, callback):
        self.home.loop.run_callback(callback)

    def pause(self, seconds):
        self.gevent.sleep(seconds)

    def spawn(self, function, *args):
        self.gevent.spawn(function, *args)
