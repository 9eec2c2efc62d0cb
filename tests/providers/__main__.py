"""Prints as Markdown what was shown of providers: `python -m tests.providers` of vendors, `… --inbound` of tokens."""

import sys

from tests.providers.inbound import printed
from tests.providers.table import table

if __name__ == "__main__":
    print("\n".join(printed()) if "--inbound" in sys.argv[1:] else table())
