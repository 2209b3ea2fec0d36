#!/usr/bin/env bash
# The documentation as a site, from README.md, docs/, the docstrings and the commands' options:
#
#     scripts/docs.sh [build]         writes it into site/, which opens from disk, too
#     scripts/docs.sh serve [PORT]    writes it and serves it at http://127.0.0.1:8000
#     scripts/docs.sh check           also asks whether the addresses it links to answer
#
# A warning, such as of a link that leads nowhere, is an error; the old site then stays. Makes the
# environment first, if needed; only that and "check" use the network.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
    exit
fi
case ${1:-build} in
    build | serve | check) ;;
    *) echo "usage: scripts/docs.sh [build|serve [PORT]|check]" >&2 && exit 2 ;;
esac
source "$(dirname -- "${BASH_SOURCE[0]}")/_environment.sh"

cd -- "$repository"
python=$environment/bin/python
work=build/site

# Deprecations that the libraries see in one another are not the documentation's.
sphinx() {
    PYTHONPATH=. PYTHONWARNINGS=ignore "$python" -m sphinx --quiet --fail-on-warning --keep-going \
        --conf-dir scripts/documentation --doctree-dir "$work/doctrees" -b "$1" "$work/sources" "$2"
}

build() {
    PYTHONPATH=. "$python" scripts/documentation/pages.py "$work/sources"
    rm -rf -- "$work/html"
    sphinx html "$work/html"
    "$python" scripts/documentation/site_links.py "$work/html"
    rm -rf -- site
    mv -- "$work/html" site
    echo "The site is in $repository/site; begin with index.html."
}

build
case ${1:-build} in
    serve) exec "$python" -m http.server --bind 127.0.0.1 --directory site "${2:-8000}" ;;
    check) sphinx linkcheck "$work/links" ;;
esac
