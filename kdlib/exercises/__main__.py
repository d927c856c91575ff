"""Writes the notebooks with exercises as students get them: `python -m kdlib.exercises notebooks -o DIR`."""

from __future__ import annotations

import argparse
import sys

from kdlib.exercises.student import write_student_versions


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kdlib.exercises", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("notebooks", help="the folder of notebooks that hold the solutions")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="where to write; made if it is not there")
    arguments = parser.parse_args()
    try:
        written = write_student_versions(arguments.notebooks, arguments.out)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(written)} notebooks with exercises in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
