#!/usr/bin/env bash
# Runs the tests, after making the environment if needed. Arguments go to pytest:
#
#     scripts/test.sh                         all but the slow ones
#     scripts/test.sh -m slow                 the slow ones
#     scripts/test.sh tests/test_snl.py -x    paths are relative to the repository
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_environment.sh"

cd -- "$repository"
# Without arguments the tests run in several processes, one for each core, which share them out.
if (($# == 0)) || [[ $* == "-m slow" ]]; then
    set -- -n auto --maxprocesses 8 --dist worksteal "$@"
fi
exec "$environment/bin/python" -m pytest "$@"
