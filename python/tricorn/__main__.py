"""`python -m tricorn`."""

from tricorn.app.wsgiapp import run

if __name__ == "__main__":
    run(prog="tricorn")
