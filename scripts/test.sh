#!/usr/bin/env bash
# Runs the tests, after making the environment if needed. Arguments go to pytest:
#
#     scripts/test.sh                         all but the slow ones
#     scripts/test.sh -m slow                 the slow ones
#     scripts/test.sh tests/test_snl.py -x    paths are relative to the repository
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_environment.sh"

cd -- "$repository"
exec "$environment/bin/python" -m pytest "$@"
