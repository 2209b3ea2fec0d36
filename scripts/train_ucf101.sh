#!/usr/bin/env bash
# Trains I3D with a spectral nonlocal block, evaluates it and shows where the results are.
#
#     UCF101_ROOT=/data/ucf101 scripts/train_ucf101.sh     the paper's protocol on UCF-101
#     scripts/train_ucf101.sh                              a small network on generated videos
#     scripts/train_ucf101.sh --resume [RUN]               goes on with a run that was stopped
#
# UCF101_ROOT is the folder that holds UCF-101/<Class>/v_<Class>_gNN_cNN.avi and
# ucfTrainTestlist/. Other arguments go to `video-snl train` (docs/ucf101.md); runs are written to
# the folder runs of the working directory. Makes the environment first, if needed.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
    exit
fi
source "$(dirname -- "${BASH_SOURCE[0]}")/_environment.sh"

video_snl=$environment/bin/video-snl
output=$(mktemp)
child='' stopped='' signalled=''

# Runs a command that can be stopped at once. It gets a process group of its own, so that a signal
# reaches it exactly once, whether it came from the keyboard or was sent to this script alone.
run() {
    local status
    stopped=
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    while :; do
        signalled=
        status=0
        wait "$child" || status=$?
        # A signal breaks off the wait, not the command: wait again for its own exit code.
        [[ -n $signalled ]] || break
    done
    child=
    return "$status"
}

stop() {
    stopped=$1
    signalled=1
    [[ -z $child ]] || kill -s "$1" -- "-$child" 2>/dev/null || true
}

trap 'stop INT' INT
trap 'stop TERM' TERM HUP
trap 'rm -f -- "$output"' EXIT

resuming=
for argument in "$@"; do
    [[ $argument != --resume && $argument != --resume=* ]] || resuming=1
done

if [[ -n $resuming ]]; then
    # A run goes on with its own configuration.
    experiment=()
elif [[ -n ${UCF101_ROOT:-} ]]; then
    echo "Training on UCF-101 in $UCF101_ROOT by the paper's protocol."
    experiment=(--config "$repository/configs/ucf101/i3d_r50_snl.yaml" --data.root "$UCF101_ROOT")
else
    echo "UCF101_ROOT is not set: this is a demonstration on GENERATED sample videos, not UCF-101."
    echo "For UCF-101, run: UCF101_ROOT=/path/to/ucf101 scripts/train_ucf101.sh"
    echo "(the folder that holds UCF-101/ and ucfTrainTestlist/; see docs/ucf101.md)."
    experiment=(--config "$repository/configs/ucf101/sample.yaml")
fi

# tee must outlive a Ctrl-C, to pass on what training still has to say.
exec {copy}> >(trap '' INT TERM HUP && exec tee -- "$output")
tee=$!
status=0
run "$video_snl" train "${experiment[@]}" "$@" >&"$copy" || status=$?
exec {copy}>&-
wait "$tee" || true

if ((status != 0)); then
    if [[ -n $stopped ]]; then
        echo "Training was stopped. To go on: scripts/train_ucf101.sh --resume" >&2
    fi
    exit "$status"
fi
run_folder=$(sed -n 's/^run: //p' "$output" | tail -n 1)
if [[ ! -d $run_folder ]]; then
    echo "error: training did not say where its run is (no line 'run: FOLDER')." >&2
    exit 1
fi

status=0
run "$video_snl" evaluate --checkpoint "$run_folder" || status=$?
if ((status != 0)); then
    if [[ -n $stopped ]]; then
        echo "Evaluation was stopped. To repeat it:" \
            "$video_snl evaluate --checkpoint $run_folder" >&2
    fi
    exit "$status"
fi
echo
echo "Results are in $run_folder:"
(cd -- "$run_folder" && find . -type f | LC_ALL=C sort | sed 's|^\./|  |')
