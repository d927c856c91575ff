"""Notebooks as stages of the compendium, their figures and their report."""

import sys

# jsonschema, which nbformat uses, would make a parser of addresses in all alphabets with this: 3 seconds at each import
# for a check that no notebook asks for. It does without.
sys.modules.setdefault("rfc3987_syntax", None)
