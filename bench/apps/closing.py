"""`/` returns something that is to be closed; `/closed` says how often that was done."""

closed = 0


class Blocks:
    def __iter__(self):
        return iter([b"."])

    def close(self):
        global closed
        closed += 1


def app(environ, start_response):
    blocks = Blocks() if environ["PATH_INFO"] == "/" else [b"%d" % closed]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return blocks
