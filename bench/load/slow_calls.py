"""Two clients that sit in calls of 50 ms until SIGTERM. `python slow_calls.py PORT`"""

import http.client
import sys
import threading


def sit(port: int) -> None:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            while True:
                connection.request("GET", "/?ms=50")
                connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()


if __name__ == "__main__":
    for _ in range(2):
        threading.Thread(target=sit, args=(int(sys.argv[1]),), daemon=True).start()
    threading.Event().wait()
