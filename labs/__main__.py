"""`python -m labs`."""

import sys

try:
    from labs.cli import main
except KeyboardInterrupt:  # nothing has been started yet
    print("interrupted", file=sys.stderr)
    sys.exit(130)

sys.exit(main())
