"""`python -m kdlib.compendium.report PRESET` builds the preset's report from what the stages left."""

import argparse
import sys

from kdlib.compendium.report.site import build_report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kdlib.compendium.report", description=__doc__)
    parser.add_argument("preset", help="a group of params.yaml, for example quick")
    try:
        print(build_report(parser.parse_args().preset))
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
