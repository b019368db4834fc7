"""Starts the rivals that have no command: `python launch.py NAME PORT MODULE:APP WORKERS THREADS`."""

import importlib
import sys


def main(name: str, port: int, spec: str, workers: int, threads: int) -> None:
    sys.path.insert(0, "")
    module, _, attribute = spec.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    match name:
        case "bjoern":
            import bjoern

            bjoern.run(app, "127.0.0.1", port)
        case "freastal":
            import freastal

            freastal.serve(app, host="127.0.0.1", port=port, workers=workers)
        case "freastal-asgi":
            import freastal

            freastal.serve_asgi(app, host="127.0.0.1", port=port, workers=workers)
        case "pyruvate":
            import pyruvate

            pyruvate.serve(app, f"127.0.0.1:{port}", threads)
        case "cheroot":
            from cheroot import wsgi

            wsgi.Server(("127.0.0.1", port), app, numthreads=threads).start()
        case _:
            sys.exit(f"no rival is called {name}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
