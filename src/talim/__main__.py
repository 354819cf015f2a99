"""Lets `python -m talim` be the command `talim`."""

from talim.cli import main

if __name__ == "__main__":
    main()
