# Sourced by the other scripts: makes the Python environment unless it is there already.
#
# Sets `repository` (the folder above this one) and `environment` (the virtual environment:
# VIDEO_SNL_VENV, or .venv in the repository). The environment holds the versions of
# requirements.lock and this repository as an editable installation. A stamp in it, written last,
# tells that it is complete and fits: then nothing is installed and no network is needed.

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
environment=${VIDEO_SNL_VENV:-$repository/.venv}
mkdir -p -- "$(dirname -- "$environment")"
environment=$(cd -- "$(dirname -- "$environment")" && pwd)/$(basename -- "$environment")

# The installer; without it (or where it cannot reach the packages) pip does the same, slower.
_uv=uv==0.13.9

_fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# What a complete environment was made from. The path is part of it because an environment
# contains absolute paths: a moved repository needs a new one.
_fingerprint() {
    printf '%s %s' "$repository" "$environment"
    cat -- "$repository"/{requirements.lock,setup.cfg,pyproject.toml} | cksum
}

# The first Python that is new enough and can make environments. Every candidate is really run:
# a name on the PATH may be a launcher for a version that is not installed.
_find_python() {
    local name too_old='' no_venv=''
    for name in python3 python3.13 python3.12 python3.11; do
        if ! "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            too_old+=" $("$name" --version 2>/dev/null || true)"
        elif ! "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            no_venv=$name
        else
            command -v "$name"
            return
        fi
    done
    [[ -z $no_venv ]] || _fail "$no_venv has no venv module; install it" \
        "(Debian, Ubuntu: apt install python3-venv) and run this again."
    _fail "Python 3.11 or newer is needed, found:${too_old:- none}; install it and run this again."
}

_install_packages() {
    local python=$environment/bin/python lock=$repository/requirements.lock quiet=()
    [[ -t 2 ]] || quiet=(--quiet)
    # Packages that come as source are built with the locked setuptools, too.
    if "$python" -m pip install --quiet "$_uv" &&
        "$python" -m uv pip install "${quiet[@]}" --compile-bytecode --python "$python" \
            --requirement "$lock" --build-constraints "$lock"; then
        return
    fi
    echo "The fast installer did not succeed; installing with pip." >&2
    PIP_CONSTRAINT=$lock "$python" -m pip install "${quiet[@]}" --requirement "$lock"
}

_make_environment() {
    local python clear=() stamp=$environment/video-snl-stamp
    if [[ -e $environment && ! -f $environment/pyvenv.cfg && -n $(ls -A -- "$environment") ]]; then
        _fail "$environment is not a virtual environment; set VIDEO_SNL_VENV to a new folder."
    fi
    python=$(_find_python)
    echo "Installing the pinned packages into $environment" \
        "(several GB, CUDA included: minutes)." >&2
    # One that was broken off may hold halves of packages; a complete one is only brought up to date.
    [[ $(cat -- "$stamp" 2>/dev/null) != incomplete ]] || clear=(--clear)
    "$python" -m venv "${clear[@]}" "$environment"
    echo incomplete >"$stamp"
    _install_packages
    "$environment/bin/python" -m pip install --quiet --no-deps --no-build-isolation \
        --editable "$repository"
    _fingerprint >"$stamp"
    echo "The environment is complete." >&2
}

_is_complete() {
    [[ -x $environment/bin/python &&
        $(cat -- "$environment/video-snl-stamp" 2>/dev/null) == "$(_fingerprint)" ]]
}

_ensure_environment() {
    local lock
    _is_complete && return
    # Of two scripts started at once the second waits for the first (where there is flock).
    exec {lock}<"$repository/requirements.lock"
    if command -v flock >/dev/null; then flock "$lock"; fi
    _is_complete || _make_environment
    exec {lock}<&-
}

export PIP_DISABLE_PIP_VERSION_CHECK=1
_ensure_environment
