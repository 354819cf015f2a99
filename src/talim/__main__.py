"""The command `talim`, also as `python -m talim`: interrupted while it starts, it ends without a traceback."""

import sys


def main() -> None:
    """Run the command line and exit."""
    try:
        from talim.cli import main as run
    except KeyboardInterrupt:
        print("talim: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
