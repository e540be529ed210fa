"""`python -m oxon doctor`: the commands of the package."""

from __future__ import annotations

import argparse

from . import doctor


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m oxon", description="oxon's commands")
    commands = parser.add_subparsers(dest="command", required=True)
    examine = commands.add_parser("doctor", help="says what oxon found on this machine, and tests it")
    examine.add_argument("--device", metavar="NAME", help="examine this device only, such as gpu:llvmpipe")
    arguments = parser.parse_args()
    return doctor.examine(arguments.device)


if __name__ == "__main__":
    raise SystemExit(main())
